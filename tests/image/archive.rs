//! What is in the archive: an OCI image layout (<https://github.com/opencontainers/image-spec>, version 1.1), which is a
//! `docker load` archive as well.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{build, output_of};

/// An image's pull is part of a pod's start. Envoy's distroless image, for comparison, is about five times as large.
const MOST_BYTES: u64 = 12 << 20;

/// An archive that was unpacked, its digests checked.
pub struct Unpacked {
    folder: TempDir,
    /// The image's configuration.
    pub config: Value,
    manifest: Value,
}

// === impl Unpacked ===

impl Unpacked {
    pub fn new(archive: &Path) -> Self {
        let folder = TempDir::new().unwrap();
        output_of(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(folder.path()));
        let read = |path: &str| -> Value {
            serde_json::from_slice(&fs::read(folder.path().join(path)).unwrap()).unwrap()
        };
        assert_eq!(read("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}));
        let index = read("index.json");
        let [manifest] = index["manifests"].as_array().unwrap().as_slice() else {
            panic!("one image: {index}")
        };
        let manifest = read(&blob(folder.path(), manifest));
        let config = read(&blob(folder.path(), &manifest["config"]));
        Self { folder, config, manifest }
    }

    /// The layer's file, compressed.
    fn layer(&self) -> std::path::PathBuf {
        let [layer] = self.manifest["layers"].as_array().unwrap().as_slice() else {
            panic!("one layer: {}", self.manifest)
        };
        self.folder.path().join(blob(self.folder.path(), layer))
    }

    /// The image's files, as a container would see them.
    pub fn unpack(&self, root: &Path) {
        output_of(Command::new("tar").arg("-xzf").arg(self.layer()).arg("-C").arg(root));
    }
}

// === tests ===

pub fn keeps_the_image_specification() {
    let (_folder, archive) = build::archive();
    let image = Unpacked::new(&archive);
    let layer = image.layer();
    let unpacked =
        output_of(Command::new("sh").args(["-c", "gzip -dc \"$0\" | sha256sum"]).arg(&layer));
    let config = &image.config;
    let diff_id = format!("sha256:{}", unpacked.split(' ').next().unwrap());
    assert_eq!(config["rootfs"], json!({"type": "layers", "diff_ids": [diff_id]}));
    assert_eq!(config["history"].as_array().unwrap().len(), 1, "one entry for each layer");
    assert_eq!(config["created"], "2023-11-14T22:13:20Z", "SOURCE_DATE_EPOCH");
    assert_eq!((&config["os"], &config["architecture"]), (&json!("linux"), &json!(architecture())));
    let run = &config["config"];
    assert_eq!(run["User"], "65532:65532");
    assert_eq!(run["Entrypoint"], json!(["/lameduck"]));
    assert_eq!(run["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(run["Labels"]["org.opencontainers.image.licenses"], env!("CARGO_PKG_LICENSE"));
    assert_eq!(run["Labels"]["org.opencontainers.image.revision"], "0123456789abcdef");
    let listed = listed(&layer);
    assert_eq!(listed.len(), 1, "the binary alone: {listed:?}");
    let [mode, owner, ..] = listed[0].split_whitespace().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((mode, owner), ("-rwxr-xr-x", "0/0"), "{listed:?}");
    assert!(listed[0].ends_with(" lameduck"), "{listed:?}");
}

pub fn is_small_and_holds_a_static_binary_alone() {
    let image = build::image();
    let bytes = fs::metadata(image).unwrap().len();
    assert!(bytes <= MOST_BYTES, "{bytes} bytes, at most {MOST_BYTES}");
    let unpacked = Unpacked::new(image);
    assert_eq!(listed(&unpacked.layer()).len(), 1);
    let root = TempDir::new().unwrap();
    unpacked.unpack(root.path());
    let binary = root.path().join("lameduck");
    let headers =
        output_of(Command::new("readelf").args(["--program-headers", "--dynamic"]).arg(&binary));
    assert!(headers.contains("LOAD"), "{headers}");
    for dynamic in ["INTERP", "NEEDED"] {
        assert!(!headers.contains(dynamic), "{dynamic} in {headers}");
    }
    let home = option_env!("CARGO_HOME").unwrap_or(env!("CARGO_MANIFEST_DIR"));
    let bytes = fs::read(&binary).unwrap();
    for private in [home, env!("CARGO_MANIFEST_DIR"), "/.cargo/registry/"] {
        let found = memchr::memmem::find(&bytes, private.as_bytes());
        assert_eq!(found, None, "the binary says where it was compiled: {private}");
    }
}

pub fn can_be_read_by_skopeo() {
    let image = build::image().display();
    let folder = TempDir::new().unwrap();
    for format in ["oci-archive", "docker-archive"] {
        let source = format!("{format}:{image}");
        let shown: Value = serde_json::from_str(&output_of(
            Command::new("skopeo").args(["inspect", &source]).env("HOME", folder.path()),
        ))
        .unwrap();
        assert_eq!(shown["Architecture"], architecture(), "{format}");
        assert_eq!(shown["Labels"]["org.opencontainers.image.title"], "lameduck", "{format}");
        // Copying reads all of it, and compares digests.
        let copy = format!("dir:{}", folder.path().join(format).display());
        let copy = ["--insecure-policy", "copy", "--quiet", &source, &copy];
        output_of(Command::new("skopeo").args(copy).env("HOME", folder.path()));
    }
}

// === helpers ===

/// The path of the blob that `descriptor` describes, once it is as described.
fn blob(folder: &Path, descriptor: &Value) -> String {
    let digest = descriptor["digest"].as_str().unwrap();
    let hex = digest.strip_prefix("sha256:").unwrap();
    let path = format!("blobs/sha256/{hex}");
    let file = folder.join(&path);
    assert_eq!(json!(fs::metadata(&file).unwrap().len()), descriptor["size"], "{path}");
    let found = output_of(Command::new("sha256sum").arg(&file));
    assert_eq!(found.split(' ').next(), Some(hex), "{path}");
    path
}

/// The entries of a compressed layer, as `ls -ln` would show them.
fn listed(layer: &Path) -> Vec<String> {
    let list = Command::new("tar").args(["--numeric-owner", "-tvzf"]).arg(layer).output().unwrap();
    assert!(list.status.success(), "{list:?}");
    String::from_utf8(list.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// This machine's, in the words of images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
