#!/usr/bin/env bash
# Plans without the host: from live state that `keel observe` wrote there.
#
#   plan.sh LIVE.json FOLDER
#
# Into the folder go plan.json (what apply takes), plan.md (what a reviewer reads) and plan.gitlab.json (counts); the log
# has all of the plan, also where the report was cut. Ends with the exit code of keel plan: where a guard stops the plan (4)
# the reviewer reads why, where there is none (3) the log says why. The folder lies outside of the work tree, which would
# count as changed.
set -euo pipefail
live=$1 to=$2
mkdir -p "$to"
rm -f "$to"/plan.json "$to"/plan.md "$to"/plan.gitlab.json
code=0
keel plan --against "$live" --save "$to/plan.json" -o markdown >"$to/plan.md" || code=$?
case $code in
  0 | 4) ;;
  *)
    cat "$to/plan.md"
    rm -f "$to"/plan.json "$to"/plan.md
    exit "$code"
    ;;
esac
# Plans of their own, but the same: nothing else is looked at than the manifests and the live state.
keel plan --against "$live" --detail full || [ $? = 4 ]
keel plan --against "$live" -o gitlab-plan >"$to/plan.gitlab.json" || [ $? = 4 ]
[ -z "${GITHUB_STEP_SUMMARY:-}" ] || cat "$to/plan.md" >>"$GITHUB_STEP_SUMMARY"
exit "$code"
