//! A pod's volumes, and how containers see them: every `emptyDir` is a folder that lives as long as the pod, and is
//! mounted where a container wants it.
//!
//! A container that mounts something gets a root of its own: a folder in memory with everything in it that is in the
//! test's root, and its mounts. Other kinds of volumes are refused, and `sizeLimit` is not looked at: a debug build has
//! more debug information than the injector allows for.

use std::{fs, path::PathBuf};

use super::manifest::{PodSpec, VolumeMount};

/// In the file system in memory that the node has for itself (see [`super::network::make_node`]).
const FOLDERS: &str = "/run/pods";

/// Becomes `$4…` in a root at `$1` that has, besides what is in this one, `$2` mounts, each of them a folder here, a folder
/// there, and `ro` or `rw`. Symbolic links at the root are those of a merged `/usr`. `/run` is the node's own.
const ENTER: &str = r#"
root=$1 mounts=$2; shift 2
mount -t tmpfs root "$root"
for entry in /*; do
    if [ -L "$entry" ]; then cp -P "$entry" "$root/"
    elif [ "$entry" = /run ]; then mkdir "$root/run"
    elif [ -d "$entry" ]; then mkdir "$root$entry"; mount --rbind "$entry" "$root$entry"
    fi
done
while [ "$mounts" -gt 0 ]; do
    mkdir "$root$2"
    mount -o "bind,$3" "$1" "$root$2"
    mounts=$((mounts - 1)); shift 3
done
exec chroot "$root" "$@"
"#;

/// The volumes of one pod; their folders go with this.
pub(crate) struct Volumes {
    folder: PathBuf,
}

// === impl Volumes ===

impl Volumes {
    /// Empty folders for a pod of `spec`, which nobody else calls `name` now.
    pub(crate) fn new(name: &str, spec: &PodSpec) -> Self {
        let volumes = Self { folder: PathBuf::from(FOLDERS).join(name) };
        let names = spec.volumes.iter().map(|volume| volume.name.as_str());
        for path in names.map(|name| volumes.path(name)).chain([volumes.root()]) {
            fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        volumes
    }

    /// The folder of the volume called `name`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join("volumes").join(name)
    }

    /// What has to stand before a command so that it sees `mounts`. It becomes the command, without a fork.
    pub(crate) fn enter(&self, mounts: &[VolumeMount]) -> Vec<String> {
        if mounts.is_empty() {
            return Vec::new();
        }
        let mut enter =
            ["unshare", "--mount", "--", "sh", "-ec", ENTER, "enter"].map(str::to_owned).to_vec();
        enter.extend([self.root().display().to_string(), mounts.len().to_string()]);
        for VolumeMount { name, mount_path, read_only } in mounts {
            let folder = self.path(name);
            assert!(folder.exists(), "volumeMounts {name}: there is no such volume");
            // Below another folder it would be made in the test's own file system.
            let is_at_the_root = mount_path.rfind('/') == Some(0) && mount_path.len() > 1;
            assert!(
                is_at_the_root,
                "mountPath {mount_path}: expected a folder of the root, such as /data"
            );
            let mode = if *read_only { "ro" } else { "rw" };
            enter.extend([folder.display().to_string(), mount_path.clone(), mode.to_owned()]);
        }
        enter
    }

    /// Where each container has its root: every one mounts it for itself.
    fn root(&self) -> PathBuf {
        self.folder.join("root")
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            println!("{} can't be deleted: {error}", self.folder.display());
        }
    }
}
