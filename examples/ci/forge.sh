# shellcheck shell=bash
# What the scripts beside it share: the REST API of a forge. Sourced; needs curl and jq.
#
#   FORGE              gitlab, or github, which Forgejo and Gitea speak as well; absent: by the environment
#   FORGE_API          https://api.github.com, https://forge.example.org/api/v1, https://gitlab.example.org/api/v4
#   FORGE_REPOSITORY   owner/name; of GitLab the number of the project
#   FORGE_TOKEN        the credentials
#   FORGE_USER         the name that belongs to them; absent: the forge is asked
#
# FORGE_API and FORGE_REPOSITORY are known in a job.
set -euo pipefail
FORGE=${FORGE:-${GITLAB_CI:+gitlab}}
FORGE=${FORGE:-github}
FORGE_API=${FORGE_API:-${CI_API_V4_URL:-${GITHUB_API_URL:-}}}
FORGE_API=${FORGE_API%/}
FORGE_REPOSITORY=${FORGE_REPOSITORY:-${CI_PROJECT_ID:-${GITHUB_REPOSITORY:-}}}
: "${FORGE_API:?the address of the API of the forge}" "${FORGE_REPOSITORY:?which repository}" "${FORGE_TOKEN:?the credentials}"

forge_files=$(mktemp -d)
trap 'rm -rf "$forge_files"' EXIT

# shellcheck disable=SC2034
case $FORGE in
  gitlab) forge_repository=projects/$FORGE_REPOSITORY ;;
  *) forge_repository=repos/$FORGE_REPOSITORY ;;
esac

fail() {
  echo "$*" >&2
  exit 1
}

# request METHOD URL [OPTION …]: the answer. The credentials stand on no command line, where others would see them.
request() {
  local method=$1 url=$2 header="Authorization: Bearer $FORGE_TOKEN"
  shift 2
  [ "$FORGE" != gitlab ] || header="PRIVATE-TOKEN: $FORGE_TOKEN"
  # Only reading may be tried again: what was made twice would be there twice.
  [ "$method" != GET ] || set -- --retry 3 "$@"
  curl --silent --show-error --fail-with-body --max-time 120 --request "$method" \
    --config <(printf 'header = "%s"\n' "$header") --header 'Accept: application/json' "$@" "$url" \
    || fail "$method $url was refused"
}

# send METHOD PATH: sends the JSON on standard input.
send() {
  request "$1" "$FORGE_API/$2" --header 'Content-Type: application/json' --data-binary @-
}

# all PATH: each item of a list, one a line, of all pages.
all() {
  local url="$FORGE_API/$1" headers=$forge_files/headers
  while [ -n "$url" ]; do
    # The credentials go nowhere else, whatever an answer says.
    case $url in "$FORGE_API"/*) ;; *) fail "the next page is elsewhere: $url" ;; esac
    request GET "$url" --dump-header "$headers" | jq --compact-output '.[]'
    url=$(tr -d '\r' <"$headers" | sed -nE 's/^link:.*<([^>]*)>; *rel="?next"?.*/\1/Ip')
  done
}

# mark REPORT: the first line of a report of keel, a hidden one, by which it is found again.
mark() {
  local line
  line=$(head -n 1 "$1")
  case $line in
    '<!-- keel:'*' -->') printf '%s' "$line" ;;
    *) fail "$1 is no report of keel: -o markdown writes one" ;;
  esac
}

# mine MARK: the first of the items on standard input that has the mark and was written with these credentials. What
# others wrote is not taken for ours: they could change it afterwards.
mine() {
  local user=${FORGE_USER:-}
  [ -n "$user" ] || user=$(request GET "$FORGE_API/user" | jq --raw-output '.login // .username')
  jq --null-input --arg mark "$1" --arg user "$user" '[inputs
    | select((.user.login // .author.username) == $user)
    | select((.body // .description // "") | startswith($mark))][0] // empty'
}
