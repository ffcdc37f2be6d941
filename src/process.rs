//! What the operating system says to this process: its environment, its limits.
//!
//! The only module that reads the environment. Not here: what any of it means; that is [`crate::config`].

use std::{collections::BTreeMap, fs::File, io::Read as _, path::Path};

use crate::config::{Facts, Problem, Vars, vars};

/// The longest file that a `…_FILE` variable may name. Its content is a token; a file that never ends, such as
/// `/dev/zero`, must not be read for ever.
const LONGEST_FILE: u64 = 64 << 10;

/// The environment as it was at the start.
#[derive(Clone, Debug)]
pub struct Env(BTreeMap<String, String>);

// === impl Env ===

impl Env {
    /// Reads the environment's `LAMEDUCK_…` variables.
    #[must_use]
    pub fn from_process() -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let all = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
        Self(all.filter(|(name, _)| name.starts_with(vars::PREFIX)).collect())
    }
}

impl Vars for Env {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    fn read_file(&self, path: &Path) -> Result<String, Problem> {
        let unreadable = |error| Problem::expected(format_args!("a readable file: {error}"));
        let mut content = Vec::new();
        let mut file = File::open(path).map_err(unreadable)?.take(LONGEST_FILE + 1);
        file.read_to_end(&mut content).map_err(unreadable)?;
        if content.len() as u64 > LONGEST_FILE {
            return Err(Problem::expected("a file of at most 64KiB"));
        }
        String::from_utf8(content).map_err(|_| Problem::expected("a file of UTF-8 text"))
    }
}

/// Raises the soft limit of open files to the hard one. containerd 2.0 and later start containers with a soft limit of
/// 1,024, which is for programs that use select(2); a proxy needs two descriptors per request.
pub fn raise_fd_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Not being allowed to is no error: the limit stays what it was, and `facts` reports it.
    let _unchanged = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Asks the machine for what `auto` values are computed from.
#[must_use]
pub fn facts() -> Facts {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    Facts {
        // No limit at all is reported as none.
        fd_limit: files.current.unwrap_or(u64::MAX),
        // Honours affinity and the quota of cgroups v1 and v2. Where it can't tell, one worker is always right.
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn no_env() -> Env {
        Env(BTreeMap::new())
    }

    #[test]
    fn a_file_is_read_whole_or_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"secret\n").unwrap();
        assert_eq!(no_env().read_file(file.path()), Ok("secret\n".to_owned()));
        file.write_all(&[0xff]).unwrap();
        let problem = no_env().read_file(file.path()).unwrap_err().to_string();
        assert_eq!(problem, "expected a file of UTF-8 text");
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let problem = no_env().read_file(Path::new("/dev/zero")).unwrap_err().to_string();
        assert_eq!(problem, "expected a file of at most 64KiB");
    }

    #[test]
    fn a_missing_file_is_told_with_its_cause() {
        let problem = no_env().read_file(Path::new("/no/such/file")).unwrap_err().to_string();
        assert!(problem.contains("No such file"), "{problem}");
    }

    #[test]
    fn the_machine_has_descriptors_and_cores() {
        let facts = facts();
        assert!(facts.fd_limit > 0 && facts.cpus > 0, "{facts:?}");
    }
}
