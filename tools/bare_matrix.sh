#!/usr/bin/env bash
# Run a command on a bare Debian with nothing installed but the README's line, and print a table of how it ended:
# {user namespaces, none} x {plain folder, folder with a blank, an umlaut and Japanese}.
#
#   sudo tools/bare_matrix.sh [COMMAND]        default: make study; each of the four runs takes as long as it takes
#
# Environment: BARE   folder for the machine and the logs (default /var/tmp/bare; about 10 GB, kept for the next time)
#              SUITE  Debian release (default bookworm)      MIRROR  where debootstrap takes it from
#              NAME   name of the ordinary user (default user)
#              BIND   folders to show inside, blank-separated (a local package index)
#              CELLS  which of the four, such as "with/plain" (default: all)
#
# The machine is a folder. "with" enters by pivot_root in a mount namespace of its own, as a real machine would;
# "without" enters by chroot, where the kernel refuses user namespaces, as docker and Ubuntu 24.04 do. HOME is the
# user's, everything else of the environment is gone; only pip's settings and certificates are passed on.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
command=${*:-make study}
base=$(realpath -m "${BARE:-/var/tmp/bare}") suite=${SUITE:-bookworm} name=${NAME:-user} id=1500
root=$base/$suite-$name
[ "$(id -u)" = 0 ] || { echo "This needs root, for debootstrap and chroot: sudo $0 $command" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 2; }

build() {
  local needs
  needs=$(sed -n 's/^sudo apt-get install //p' "$repository/README.md" | sed 's/#.*//' | xargs | tr ' ' ',')
  [ -n "$needs" ] || { echo "README.md has no line 'sudo apt-get install ...'" >&2; exit 2; }
  echo "bare: building $root with $needs" >&2
  mkdir -p "$base"
  debootstrap --variant=minbase --include="ca-certificates,$needs" "$suite" "$root" ${MIRROR:+"$MIRROR"} \
    >"$root.log" 2>&1 || { tail -5 "$root.log" >&2; rm -rf --one-file-system "$root"; exit 2; }
  chroot "$root" useradd --create-home --uid $id "$name"
  local file
  for file in /etc/pip.conf /etc/xdg/pip/pip.conf /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
    if [ -f $file ]; then mkdir -p "$root${file%/*}" && cp "$file" "$root$file"; fi
  done
}

enter() {  # $1 = with | without, $2 = folder; runs the command there as the user
  local pass=()
  while IFS= read -r word; do pass+=("$word"); done < <(env | grep -E '^(PIP_|SSL_CERT_FILE=|REQUESTS_CA_BUNDLE=)')
  unshare --mount --propagation private bash -c '
    set -e; root=$1 how=$2 id=$3 name=$4 folder=$5 command=$6 bind=$7; shift 7; pass=("$@")
    mount --rbind "$root" "$root"; cd "$root"
    for place in proc sys dev; do mount --rbind /$place "$root/$place"; done
    for place in $bind; do mkdir -p "$root$place"; mount --bind "$place" "$root$place"; done
    go() {
      exec "$@" env -i HOME="/home/$name" USER="$name" LOGNAME="$name" PATH=/usr/local/bin:/usr/bin:/bin "${pass[@]}" \
        sh -c "cd \"\$0\" && $command" "/home/$name/$folder"
    }
    if [ "$how" = without ]; then go chroot --userspec=$id:$id "$root"; fi
    mkdir -p old; pivot_root . old; cd /; umount -l /old
    go setpriv --reuid $id --regid $id --clear-groups
  ' bare "$root" "$1" "$id" "$name" "$2" "$command" "${BIND:-}" "${pass[@]}"
}

[ -d "$root/home/$name" ] || build
rows=() failed=0
for namespaces in with without; do
  for folder in plain "Übung 測定"; do
    cell=$namespaces/${folder%% *}
    case " ${CELLS:-$cell} " in *" $cell "*) ;; *) continue ;; esac
    place=$root/home/$name/$folder log=$base/$suite-$namespaces-${folder%% *}.log
    rm -rf --one-file-system "$place"
    git clone -q "$repository" "$place" && chown -R $id:$id "$place"
    began=$SECONDS code=0
    enter "$namespaces" "$folder" >"$log" 2>&1 </dev/null || code=$?
    [ $code = 0 ] || failed=1
    rows+=("$(printf '%-10s  %-12s  %4d  %5d s  %s' "$namespaces" "$folder" $code $((SECONDS - began)) "$(grep . "$log" | tail -1 | cut -c1-90)")")
    echo "bare: ${rows[-1]}" >&2
  done
done
printf '\n%s\n%-10s  %-12s  %4s  %7s  %s\n' "$command" namespaces folder exit time "last line (whole: $base/$suite-*.log)"
printf '%s\n' "${rows[@]}"
exit $failed
