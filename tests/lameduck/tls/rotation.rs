//! Certificates that change while connections come, and files that are no good.

use std::{
    fs,
    os::unix::fs::symlink,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use super::Setting;
use crate::support::{
    FakeApp, PATIENCE, TestPod,
    app::thread,
    eventually, let_pass, ms,
    tls::{Authority, Mounted, TlsClient},
};

/// The serial number that a new connection is shown.
fn shown(setting: &Setting, pod: &TestPod) -> u8 {
    setting.client(pod).serial()
}

fn wait_until_shown(setting: &Setting, pod: &TestPod, serial: u8) {
    eventually(&format!("certificate {serial} is shown"), PATIENCE, || {
        (shown(setting, pod) == serial).then_some(())
    });
}

#[test]
fn a_new_certificate_is_shown_at_once_and_old_connections_go_on() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let config = setting.authority.client_config();
    let mut old = TlsClient::shake_hands(pod.proxy, &config);
    old.get("/").response().expect(200);
    assert_eq!(old.serial(), 1);
    let new = setting.authority.issue(2);
    setting.mounted.replace("tls.crt", new.cert_pem());
    setting.mounted.replace("tls.key", new.key_pem());
    wait_until_shown(&setting, &pod, 2);
    old.get("/").response().expect(200).expect_close(false);
    // Also a client that could have resumed its session.
    assert_eq!(TlsClient::shake_hands(pod.proxy, &config).serial(), 2);
    let line = pod.wait_for_log("new TLS files are in use");
    assert!(line.contains("\"serial\":\"02\""), "{line}");
    assert!(line.contains("2050-01-01T00:00:00Z"), "{line}");
}

#[test]
fn handshakes_never_fail_while_certificates_change() {
    let setting = Arc::new(Setting::new());
    let app = FakeApp::echo();
    let pod = Arc::new(setting.mounted.switched_on(TestPod::before(&app)).start());
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (setting, pod) = (Arc::clone(&setting), Arc::clone(&pod));
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            thread("client", move || {
                let mut seen = Vec::new();
                while !stop.load(SeqCst) && done.fetch_add(1, SeqCst) < 2000 {
                    let mut client = setting.client(&pod);
                    client.get("/").response().expect(200);
                    seen.push(client.serial());
                    let_pass(ms(3));
                }
                seen
            })
        })
        .collect();
    for serial in 2..=4 {
        let new = setting.authority.issue(serial);
        // Not atomic, and in pieces: for a moment nothing fits.
        setting.mounted.write("tls.crt", "");
        setting.mounted.write("tls.crt", &new.cert_pem()[..300]);
        setting.mounted.write("tls.key", new.key_pem());
        let_pass(ms(300));
        setting.mounted.write("tls.crt", new.cert_pem());
        wait_until_shown(&setting, &pod, serial);
    }
    stop.store(true, SeqCst);
    for client in clients {
        let seen = client.join().expect("no handshake and no request may fail");
        assert!(seen.is_sorted(), "an old certificate came back: {seen:?}");
    }
    assert!(done.load(SeqCst) > 100, "too few handshakes to mean anything");
    assert_eq!(super::count(&pod, "fault_tls"), 0);
}

#[test]
fn a_half_written_file_keeps_the_old_and_is_told_once() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let new = setting.authority.issue(2);
    setting.mounted.write("tls.crt", &new.cert_pem()[..300]);
    let line = pod.wait_for_log("tls_reload_failed");
    assert!(line.contains("expected whole certificates in PEM"), "{line}");
    assert_eq!(shown(&setting, &pod), 1);
    // The whole file now, but the other one's key: told again, because it is something else.
    setting.mounted.write("tls.crt", new.cert_pem());
    let line = pod.wait_for_log("expected the key of the certificate");
    assert!(line.contains("tls_reload_failed"), "{line}");
    assert_eq!(shown(&setting, &pod), 1);
    setting.mounted.write("tls.key", new.key_pem());
    wait_until_shown(&setting, &pod, 2);
    let told = pod.log().iter().filter(|line| line.contains("tls_reload_failed")).count();
    assert_eq!(told, 2, "{:#?}", pod.log());
    let key = new.key_pem();
    let secret = &key.lines().nth(1).unwrap()[..20];
    assert!(!pod.log().iter().any(|line| line.contains(secret)));
}

/// As kubelet's atomic writer does it.
#[test]
fn a_swapped_link_is_followed() {
    let setting = Setting::new();
    let mount = tempfile::TempDir::new().unwrap();
    let put = |folder: &str, serial: u8| {
        let pair = setting.authority.issue(serial);
        let folder = mount.path().join(folder);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("tls.crt"), pair.cert_pem()).unwrap();
        fs::write(folder.join("tls.key"), pair.key_pem()).unwrap();
    };
    put("..2026_11_22_08_00_00.1", 1);
    symlink("..2026_11_22_08_00_00.1", mount.path().join("..data")).unwrap();
    symlink("..data/tls.crt", mount.path().join("tls.crt")).unwrap();
    symlink("..data/tls.key", mount.path().join("tls.key")).unwrap();
    let app = FakeApp::echo();
    let pod = TestPod::before(&app)
        .env("TLS_CERT_FILE", mount.path().join("tls.crt").display())
        .env("TLS_KEY_FILE", mount.path().join("tls.key").display())
        .start();
    assert_eq!(shown(&setting, &pod), 1);
    put("..2026_11_22_09_00_00.2", 2);
    symlink("..2026_11_22_09_00_00.2", mount.path().join("..data_tmp")).unwrap();
    fs::rename(mount.path().join("..data_tmp"), mount.path().join("..data")).unwrap();
    fs::remove_dir_all(mount.path().join("..2026_11_22_08_00_00.1")).unwrap();
    wait_until_shown(&setting, &pod, 2);
    assert!(!pod.log().iter().any(|line| line.contains("tls_reload_failed")));
}

#[test]
fn another_ca_is_followed_too() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on_mutual(TestPod::before(&app)).start();
    let (old, other) = (setting.authority.issue(9), Authority::new());
    let new = other.issue(9);
    let is_served = |pair| {
        let config = setting.authority.client_config_with(pair);
        TlsClient::try_shake_hands(pod.proxy, &config).is_ok_and(|mut client| {
            client.try_send(crate::support::client::get("/")).is_ok()
                && client.try_response().is_ok()
        })
    };
    assert!(is_served(&old) && !is_served(&new));
    setting.mounted.replace("ca.crt", other.pem());
    eventually("the new CA is believed", PATIENCE, || is_served(&new).then_some(()));
    assert!(!is_served(&old));
}

#[test]
fn an_expired_certificate_is_used_and_warned_about() {
    let authority = Authority::new();
    let mounted = Mounted::new(&authority, &authority.issue_expired(1));
    let app = FakeApp::echo();
    let pod = mounted.switched_on(TestPod::before(&app)).start();
    let line = pod.wait_for_log("tls_certificate_expired");
    assert!(line.contains("\"level\":\"WARN\"") && line.contains("2020-01-01"), "{line}");
}

#[test]
fn bad_files_end_the_process_before_any_port_is_bound_with_all_that_is_wrong() {
    let setting = Setting::new();
    let other = setting.authority.issue(2);
    setting.mounted.write("tls.key", other.key_pem());
    setting.mounted.write("ca.crt", "");
    let output = Command::new(env!("CARGO_BIN_EXE_lameduck"))
        .arg("proxy")
        .env_clear()
        .env("LAMEDUCK_TLS_CERT_FILE", setting.mounted.path("tls.crt"))
        .env("LAMEDUCK_TLS_KEY_FILE", setting.mounted.path("tls.key"))
        .env("LAMEDUCK_TLS_CLIENT_CA_FILE", setting.mounted.path("ca.crt"))
        .env("LAMEDUCK_LINGER", "soon")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(output.stdout.is_empty(), "nothing was started");
    let told = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert!(lines[0].starts_with("LAMEDUCK_LINGER=soon: expected"), "{told}");
    let expected = format!(
        "LAMEDUCK_TLS_CLIENT_CA_FILE={}: expected",
        setting.mounted.path("ca.crt").display()
    );
    assert!(lines[1].starts_with(&expected), "{told}");
    let expected =
        format!("LAMEDUCK_TLS_KEY_FILE={}: expected", setting.mounted.path("tls.key").display());
    assert!(lines[2].starts_with(&expected), "{told}");
}
