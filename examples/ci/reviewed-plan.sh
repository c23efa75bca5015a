#!/usr/bin/env bash
# Fetches from GitHub the plan that was made in the pull request for exactly the files that are checked out.
#
#   reviewed-plan.sh PLAN.json
#
# Such plans are artifacts that bear the name of the tree they are about (keel-plan-TREE). So it does not matter whether a
# pull request was merged, squashed or rebased; where something else came in between, there is no plan of it. What the
# workflow of a fork left is not taken. Which repository and what credentials: forge.sh. Needs unzip.
. "$(dirname "$0")/forge.sh"
to=$1
tree=$(git rev-parse 'HEAD^{tree}')
artifacts=$FORGE_API/$forge_repository/actions/artifacts
id=$(request GET "$artifacts?name=keel-plan-$tree&per_page=100" | jq '[.artifacts[]
  | select(.expired | not)
  | select(.workflow_run.head_repository_id == .workflow_run.repository_id)] | sort_by(.created_at) | last | .id // empty')
if [ -z "$id" ]; then
  echo "There is no reviewed plan of these files (tree $tree)." >&2
  echo "They did not come by a pull request that was up to date, or its plan has expired. On the host: keel plan, keel apply." >&2
  exit 1
fi
# Sent on to a store of files, which gets no credentials: curl leaves them out where the host is another one.
request GET "$artifacts/$id/zip" --location --output "$forge_files/plan.zip"
(umask 077 && unzip -p "$forge_files/plan.zip" plan.json >"$to")
echo "the plan of tree $tree"
