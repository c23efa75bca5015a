//! Squashfs images: unpacked by `unsquashfs` in a jail, never mounted; a stranger's file system is no food for the kernel.
//!
//! The jail has namespaces of its own (mount, pid, net, ipc, uts), a root of nothing but the host's programs read-only, the
//! image read-only and the target, and seven capabilities. What comes out is audited like every other tree.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use manifests::path_io::{self, AtPath as _};

use super::audit::audit;
use super::error::ImageError;
use super::limits::Limits;
use super::tree_writer::Written;
use crate::sys::command::{self, CommandError};

/// Exit status of the jail when the image is bigger than allowed.
const TOO_BIG: i32 = 70;

/// How long an image may take: the biggest that is allowed, on a slow disk.
const UNPACKING: Duration = Duration::from_secs(3600);

/// Arguments: image, target, mount point of the jail's root, KiB allowed. Paths are only ever quoted parameters.
///
/// `unsquashfs` answers 2 for what it could not set (attributes of the host's own, for one): the audit judges the rest.
/// Of `du` and of what is written between two looks, the limit is overrun by a second's worth at most.
const JAIL: &str = r#"set -eu
mount -t tmpfs -o size=1m,mode=755,nosuid,nodev tmpfs "$3"
cd "$3"
mkdir in out old usr
for name in bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$name" ]; then cp -P "/$name" "$name"
    elif [ -d "/$name" ]; then mkdir "$name"; mount --bind "/$name" "$name"; mount -o remount,bind,ro,nosuid,nodev "$name"
    fi
done
mount --bind /usr usr
mount -o remount,bind,ro,nosuid,nodev usr
touch in/image
mount --bind "$1" in/image
mount -o remount,bind,ro,nosuid,nodev,noexec in/image
mount --bind "$2" out
mount -o remount,bind,nosuid,nodev,noexec out
mkdir dev
touch dev/null
mount --bind /dev/null dev/null
mkdir proc
pivot_root . old
cd /
# umount(8) looks the mount up in /proc, which nobody needs afterwards.
mount -t proc proc proc
umount -l /old
umount /proc
ulimit -c 0
exec setpriv --bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+setfcap,+mknod,+kill --inh-caps=-all --no-new-privs sh -c '
unsquashfs -n -f -p 2 -d /out in/image >/dev/null &
child=$!
(
    while sleep 1; do
        set -- "$1" $(du -sk /out 2>/dev/null)
        [ "${2:-0}" -le "$1" ] || { kill -9 $child; exit; }
    done
) &
wait $child
status=$?
[ "$status" != 137 ] || exit 70
[ "$status" != 2 ] || exit 0
exit "$status"
' sh "$4"
"#;

/// Unpacks an image into an existing empty folder.
pub(super) fn unpack(
    image: &Path,
    into: &Path,
    limits: &Limits,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Written, ImageError> {
    let inodes = inodes(image)?;
    if inodes > limits.entries {
        return Err(ImageError::TooBig {
            limit: limits.entries,
            of: "entries in the image",
        });
    }
    for program in ["unsquashfs", "unshare", "setpriv"] {
        if !["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"]
            .iter()
            .any(|folder| Path::new(folder).join(program).exists())
        {
            return Err(ImageError::NoProgram(program));
        }
    }
    let jail = into.with_extension("jail");
    path_io::ensure_dir(&jail)?;
    let image = image.canonicalize().at("resolve", image)?;
    let kibibytes = (limits.unpacked_bytes / 1024).to_string();
    let arguments = [
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--net",
        "--ipc",
        "--uts",
        "--propagation",
        "private",
        "sh",
        "-c",
        JAIL,
        "sh",
    ]
    .into_iter()
    .map(Into::into)
    .chain([
        image.as_os_str().to_os_string(),
        into.as_os_str().to_os_string(),
        jail.as_os_str().to_os_string(),
        kibibytes.into(),
    ]);
    // The jail ends with its first process.
    let done = command::run_while("unshare", arguments, go_on, UNPACKING);
    path_io::remove_empty_dir(&jail)?;
    match done {
        Ok(_) => {}
        Err(CommandError::Failed { status, .. }) if status.code() == Some(TOO_BIG) => {
            return Err(ImageError::TooBig {
                limit: limits.unpacked_bytes,
                of: "bytes in the image",
            });
        }
        Err(CommandError::Interrupted { .. }) => return Err(ImageError::Interrupted),
        // The command line is of no use to people; what the program said is.
        Err(CommandError::Failed { stderr, .. }) => {
            let said: Vec<&str> = stderr.lines().filter(|line| !line.is_empty()).collect();
            let problem: String = said
                .last()
                .unwrap_or(&"unsquashfs failed")
                .chars()
                .filter(|c| !c.is_control())
                .take(300)
                .collect();
            return Err(ImageError::Broken {
                path: image,
                problem,
            });
        }
        Err(error) => return Err(error.into()),
    }
    audit(into, limits)
}

/// `struct squashfs_super_block`: magic, then the number of inodes (kernel fs/squashfs/squashfs_fs.h).
fn inodes(image: &Path) -> Result<u64, ImageError> {
    let mut head = [0; 96];
    let read = File::open(image).and_then(|mut file| file.read_exact(&mut head));
    read.at("read", image)?;
    let [_, _, _, _, a, b, c, d, ..] = head;
    Ok(u32::from_le_bytes([a, b, c, d]).into())
}
