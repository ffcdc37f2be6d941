use std::{fs, os::unix::fs::symlink, path::Path};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tempfile::TempDir;

use super::*;
use crate::config::ClientAuth;

/// A folder with `tls.crt`, `tls.key` and `ca.crt`, as a Secret is mounted.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(TempDir::new().unwrap());
        let (cert, key) = pair(1);
        folder.write("tls.crt", cert);
        folder.write("tls.key", key);
        folder.write("ca.crt", pair(2).0);
        folder
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn files(&self) -> config::Tls {
        config::Tls {
            cert_file: self.path("tls.crt"),
            key_file: self.path("tls.key"),
            client_ca_file: None,
            client_auth: ClientAuth::Required,
            names: &config::TLS_VARS,
        }
    }

    fn files_with_ca(&self) -> config::Tls {
        config::Tls { client_ca_file: Some(self.path("ca.crt")), ..self.files() }
    }

    fn issues(&self, files: &config::Tls) -> Vec<String> {
        let issues = Server::load(files).map(drop).unwrap_err();
        let folder = format!("{}/", self.0.path().display());
        issues.iter().map(|issue| issue.to_string().replace(&folder, "/")).collect()
    }
}

/// A self-signed certificate with this serial number, and its key.
fn pair(serial: u8) -> (String, String) {
    let mut params = CertificateParams::new(vec!["app.test".to_owned()]).unwrap();
    params.serial_number = Some(vec![serial].into());
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    (
        to_pem("CERTIFICATE", params.self_signed(&key).unwrap().der()),
        to_pem("PRIVATE KEY", &key.serialize_der()),
    )
}

fn serial(keeper: &Keeper) -> String {
    keeper.server.certificate().serial
}

#[test]
fn a_pair_is_loaded() {
    let folder = Folder::new();
    let server = Server::load(&folder.files()).unwrap();
    assert_eq!(server.certificate().serial, "01");
    assert_eq!(server.config().alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    Server::load(&folder.files_with_ca()).unwrap();
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let folder = Folder::new();
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        fs::remove_file(folder.path(name)).unwrap();
    }
    let missing = "expected a readable file: No such file or directory (os error 2)";
    assert_eq!(
        folder.issues(&folder.files_with_ca()),
        [
            format!("LAMEDUCK_TLS_CERT_FILE=/tls.crt: {missing}"),
            format!("LAMEDUCK_TLS_KEY_FILE=/tls.key: {missing}"),
            format!("LAMEDUCK_TLS_CLIENT_CA_FILE=/ca.crt: {missing}"),
        ]
    );
}

#[test]
fn what_is_wrong_with_a_file_is_told_by_its_variable() {
    let (cert, key) = pair(1);
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let chain = format!("{cert}{no_der}");
    #[rustfmt::skip] // One line per case.
    let cases: [(&str, &str, &str); 14] = [
        ("tls.crt", "", "CERT_FILE=/tls.crt: expected a certificate in PEM; the file is empty"),
        ("tls.crt", "x", "CERT_FILE=/tls.crt: expected a certificate in PEM; there is none in the file"),
        ("tls.crt", &key, "CERT_FILE=/tls.crt: expected a certificate in PEM; there is none in the file"),
        ("tls.crt", &cert[..200], "CERT_FILE=/tls.crt: expected whole certificates in PEM"),
        ("tls.crt", no_der, "CERT_FILE=/tls.crt: expected X.509 certificates; the first in the file is none"),
        ("tls.crt", &chain, "CERT_FILE=/tls.crt: expected X.509 certificates; the second in the file is none"),
        ("tls.key", " \n", "KEY_FILE=/tls.key: expected a private key in PEM; the file is empty"),
        ("tls.key", &cert, "KEY_FILE=/tls.key: expected a private key in PEM (PKCS#8, PKCS#1 or SEC1); there is none in the file"),
        ("tls.key", &key[..100], "KEY_FILE=/tls.key: expected a whole private key in PEM (PKCS#8, PKCS#1 or SEC1)"),
        ("tls.key", no_key, "KEY_FILE=/tls.key: expected an RSA (2048 to 8192 bits), ECDSA (P-256, P-384) or Ed25519 key"),
        ("tls.key", &encrypted, "KEY_FILE=/tls.key: expected a private key without a passphrase: nobody could enter it here"),
        ("tls.key", &pair(2).1, "KEY_FILE=/tls.key: expected the key of the certificate in LAMEDUCK_TLS_CERT_FILE=/tls.crt"),
        ("ca.crt", "", "CLIENT_CA_FILE=/ca.crt: expected a certificate in PEM; the file is empty"),
        ("ca.crt", no_der, "CLIENT_CA_FILE=/ca.crt: expected X.509 certificates; the first in the file is none"),
    ];
    for (file, content, expected) in cases {
        let folder = Folder::new();
        folder.write("tls.crt", &cert);
        folder.write("tls.key", &key);
        folder.write(file, content);
        assert_eq!(folder.issues(&folder.files_with_ca()), [format!("LAMEDUCK_TLS_{expected}")]);
    }
}

#[test]
fn no_message_holds_anything_of_the_key() {
    let key = pair(1).1;
    let lines: Vec<&str> = key.lines().collect();
    for bad in [
        key.replace('\n', " "),
        key.replace("-----BEGIN", "----BEGIN"),
        key.replace("KEY-----\n", "KEY-----"),
        key.replace('=', "!"),
        lines[..lines.len() - 1].join("\n"),
        format!("-----BEGIN{}", lines[1]),
    ] {
        let folder = Folder::new();
        folder.write("tls.key", &bad);
        let told = folder.issues(&folder.files()).concat();
        assert!(lines[1..lines.len() - 1].iter().all(|line| !told.contains(&line[..16])), "{told}");
    }
}

#[test]
fn keys_in_all_three_encodings_are_read() {
    let folder = Folder::new();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
    folder.write("tls.crt", to_pem("CERTIFICATE", certificate.der()));
    folder.write("tls.key", to_pem("PRIVATE KEY", &key.serialize_der()));
    Server::load(&folder.files()).unwrap();
    // A PKCS#8 key holds the SEC1 key as its last octet string: 35 bytes of wrapping before it.
    let pkcs8 = key.serialize_der();
    let start =
        pkcs8.windows(5).position(|bytes| bytes[0] == 0x30 && bytes[2..] == [2, 1, 1]).unwrap();
    folder.write("tls.key", to_pem("EC PRIVATE KEY", &sec1(&pkcs8[start..])));
    Server::load(&folder.files()).unwrap();
}

/// SEC1 wants the curve named in the key itself; PKCS#8 names it outside.
fn sec1(inner: &[u8]) -> Vec<u8> {
    const P256: [u8; 12] = [0xa0, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    // SEQUENCE { INTEGER 1, OCTET STRING (32), [1] public key }
    let (private, public) = inner[2..].split_at(3 + 2 + 32);
    let length = u8::try_from(private.len() + P256.len() + public.len()).unwrap();
    [&[0x30, length][..], private, &P256, public].concat()
}

fn to_pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in der.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(*group.get(i).unwrap_or(&0)));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i > group.len() { '=' } else { char::from(digit) });
        }
    }
    // Lines of 64, as everywhere: a reader that quotes a line quotes that much.
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[test]
fn new_files_are_used_as_soon_as_they_are_whole() {
    let folder = Folder::new();
    let mut keeper = Keeper::new(Server::load(&folder.files()).unwrap());
    let before = keeper.server.config();
    keeper.look(0);
    assert!(Arc::ptr_eq(&before, &keeper.server.config()), "nothing has changed");

    let (cert, key) = pair(7);
    folder.write("tls.crt", &cert);
    keeper.look(0);
    assert_eq!((serial(&keeper).as_str(), keeper.settled), ("01", false), "one of two files");
    folder.write("tls.key", &key[..40]);
    keeper.look(0);
    assert_eq!((serial(&keeper).as_str(), keeper.settled), ("01", false), "half of the second");
    folder.write("tls.key", &key);
    keeper.look(0);
    assert_eq!((serial(&keeper).as_str(), keeper.settled), ("07", true));
    assert!(!Arc::ptr_eq(&before, &keeper.server.config()));
}

#[test]
fn files_that_stay_bad_are_complained_about_once() {
    let folder = Folder::new();
    let mut keeper = Keeper::new(Server::load(&folder.files()).unwrap());
    for bad in ["", "x"] {
        folder.write("tls.key", bad);
        keeper.look(0);
        assert!(!keeper.settled, "there may be more to come");
        keeper.look(0);
        assert!(keeper.settled, "it was complained about");
        keeper.look(0);
        assert!(keeper.settled && serial(&keeper) == "01");
    }
}

/// As kubelet's atomic writer does it: `tls.crt -> ..data/tls.crt`, `..data -> ..<time>`.
#[test]
fn a_swapped_link_is_a_change() {
    let folder = TempDir::new().unwrap();
    let put = |name: &str, serial: u8| {
        let (cert, key) = pair(serial);
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("tls.crt"), cert).unwrap();
        fs::write(folder.path().join(name).join("tls.key"), key).unwrap();
    };
    put("..1", 1);
    symlink("..1", folder.path().join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), folder.path().join(name)).unwrap();
    }
    let files = config::Tls {
        cert_file: folder.path().join("tls.crt"),
        key_file: folder.path().join("tls.key"),
        client_ca_file: None,
        client_auth: ClientAuth::Required,
        names: &config::TLS_VARS,
    };
    let mut keeper = Keeper::new(Server::load(&files).unwrap());
    put("..2", 2);
    symlink("..2", folder.path().join("..data_tmp")).unwrap();
    fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    fs::remove_dir_all(folder.path().join("..1")).unwrap();
    keeper.look(0);
    assert_eq!(serial(&keeper), "02");
}

#[test]
fn an_expired_certificate_is_told_once() {
    let folder = Folder::new();
    let mut keeper = Keeper::new(Server::load(&folder.files()).unwrap());
    let expires_at = keeper.server.expires_at();
    keeper.look(expires_at);
    assert_eq!(keeper.told_expired, None);
    keeper.look(expires_at + 1);
    assert_eq!(keeper.told_expired, Some(expires_at));
}

#[test]
fn clients_that_are_asked_for_a_certificate_are_asked_each_time() {
    let folder = Folder::new();
    let resumes = |files: &config::Tls| {
        let config = Server::load(files).unwrap().config();
        config.session_storage.can_cache() && config.send_tls13_tickets > 0
    };
    assert!(resumes(&folder.files()));
    assert!(!resumes(&folder.files_with_ca()));
}
