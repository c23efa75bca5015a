#!/usr/bin/env bash
# One issue about drift: opened where there is some, renewed as long as there is, closed when it is gone.
#
#   drift-issue.sh REPORT.md CODE
#
# REPORT.md is what `keel drift -o markdown --detailed-exitcode` wrote, CODE how it ended. Which forge and what
# credentials: forge.sh.
. "$(dirname "$0")/forge.sh"
report=$1 code=$2
case $code in
  0 | 2) ;;
  *)
    cat "$report" >&2
    echo "whether there is drift could not be told: keel drift ended with $code" >&2
    exit "$code"
    ;;
esac
issues=$forge_repository/issues
case $FORGE in
  gitlab) open=opened text=description number=.iid edit=PUT close='"state_event":"close"' ;;
  *) open=open text=body number=.number edit=PATCH close='"state":"closed"' ;;
esac
mark=$(mark "$report")
# Lists of issues have pull requests among them.
all "$issues?state=$open&per_page=100&limit=50" | jq 'select(.pull_request | not)' >"$forge_files/issues"
issue=$(mine "$mark" <"$forge_files/issues" | jq "$number")
# <!-- keel:drift edge edge-1 -->
read -r _ _ source host _ <<<"$mark"
filled() { jq --null-input --arg title "Drift of $source on $host" --arg text "$text" --rawfile report "$report" "$1"; }
if [ "$code" = 2 ] && [ -n "$issue" ]; then
  filled '{($text): $report}' | send "$edit" "$issues/$issue" >/dev/null
  echo "renewed the issue $issue"
elif [ "$code" = 2 ]; then
  filled '{$title, ($text): $report}' | send POST "$issues" | jq --raw-output "\"opened the issue \\($number)\""
elif [ -n "$issue" ]; then
  filled "{(\$text): \$report, $close}" | send "$edit" "$issues/$issue" >/dev/null
  echo "no drift any more: closed the issue $issue"
else
  echo "no drift"
fi
