#!/usr/bin/env bash
# One comment in a pull request: made once, and renewed after that.
#
#   comment.sh REPORT.md NUMBER
#
# Where there is no report there is nothing to tell. Which forge and what credentials: forge.sh.
. "$(dirname "$0")/forge.sh"
report=$1 number=$2
if [ ! -s "$report" ]; then
  echo "no report, no comment"
  exit
fi
case $FORGE in
  gitlab) at=$forge_repository/merge_requests/$number/notes one=$at edit=PUT ;;
  *) at=$forge_repository/issues/$number/comments one=$forge_repository/issues/comments edit=PATCH ;;
esac
mark=$(mark "$report")
# As many a page as they give: GitHub and GitLab read the one word, Forgejo and Gitea the other.
all "$at?per_page=100&limit=50" >"$forge_files/comments"
id=$(mine "$mark" <"$forge_files/comments" | jq .id)
body() { jq --null-input --rawfile body "$report" '{$body}'; }
if [ -n "$id" ]; then
  body | send "$edit" "$one/$id" >/dev/null
  echo "renewed the comment $id"
else
  body | send POST "$at" | jq --raw-output '"made the comment \(.id)"'
fi
