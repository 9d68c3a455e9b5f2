# shellcheck shell=sh
# For a script that makes $folder once for each content of itself: ends it where that is done, and
# otherwise holds $folder's lock (descriptor 8) from here on. $of: what else it is made of. The
# script ends by writing $made_by into .made-by. Sourced.
say() { printf 'podwire: %s\n' "$*" >&2; }
made_by="${of:-} $(sha256sum <"$0")"
# shellcheck disable=SC2154  # the script's
is_current() { [ "$(cat "$folder/.made-by" 2>/dev/null)" = "$made_by" ]; }
! is_current || exit 0
mkdir -p "$(dirname "$folder")"
exec 8>>"$folder.lock"
flock 8
! is_current || exit 0
