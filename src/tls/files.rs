//! The files that TLS is made of, as they are at one moment.
//!
//! Not here: what is in them; that is [`super::material`]'s business.

use std::{
    fs::File,
    hash::{Hash as _, Hasher as _},
    io::{self, Read as _},
    path::Path,
};

use crate::config;

/// The longest file that is read. A bundle of all public CAs has about 250 KiB; what never ends must not be read
/// for ever.
const LONGEST_FILE: u64 = 1 << 20;

/// A file's content, or why it can't be read.
pub(super) type Content = Result<Vec<u8>, String>;

/// What is in the files.
pub(super) struct Contents {
    pub(super) cert: Content,
    pub(super) key: Content,
    /// `None` if none is configured.
    pub(super) client_ca: Option<Content>,
}

// === impl Contents ===

impl Contents {
    pub(super) fn read(files: &config::Tls) -> Self {
        Self {
            cert: read(&files.cert_file),
            key: read(&files.key_file),
            client_ca: files.client_ca_file.as_deref().map(read),
        }
    }

    /// A number that differs if the contents differ, so that nobody keeps a copy of the key to compare with. It is
    /// no secret and no proof: whoever can write the files may change them anyway.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        (&self.cert, &self.key, &self.client_ca).hash(&mut hasher);
        hasher.finish()
    }
}

fn read(path: &Path) -> Content {
    let mut content = Vec::new();
    let read = |content: &mut Vec<u8>| -> io::Result<usize> {
        File::open(path)?.take(LONGEST_FILE + 1).read_to_end(content)
    };
    match read(&mut content) {
        Ok(length) if length as u64 > LONGEST_FILE => Err("a file of at most 1MiB".to_owned()),
        Ok(_) => Ok(content),
        Err(error) => Err(format!("a readable file: {error}")),
    }
}
