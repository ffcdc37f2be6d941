use std::{future::poll_fn, sync::Arc, time::Duration};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

use super::*;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Both ends of a connection with TLS; the kernel holds as little as it can between them.
async fn pair() -> (Socket, client::TlsStream<TcpStream>) {
    let key = KeyPair::generate().unwrap();
    let cert =
        CertificateParams::new(vec!["app.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (accepted, connected) = tokio::join!(listener.accept(), connecting);
    let (accepted, connected) = (accepted.unwrap().0, connected.unwrap());
    connected.set_nodelay(true).unwrap();
    socket2::SockRef::from(&accepted).set_send_buffer_size(4096).unwrap();
    socket2::SockRef::from(&connected).set_recv_buffer_size(32 * 1024).unwrap();
    let accept =
        TlsAcceptor::from(Arc::new(server)).accept_with(Records::new(accepted), |session| {
            session.set_buffer_limit(Some(SEND_LIMIT));
        });
    let connect = TlsConnector::from(Arc::new(client))
        .connect(ServerName::try_from("app.test").unwrap(), connected);
    let (accepted, connected) = tokio::join!(accept, connect);
    let (socket, mut connected) = (Socket::tls(accepted.unwrap()), connected.unwrap());
    // The tickets that come with a handshake are out of the way after a first exchange.
    assert_eq!(write(&socket, b"hello").await, 5);
    connected.read_exact(&mut [0; 5]).await.unwrap();
    (socket, connected)
}

async fn write(socket: &Socket, bytes: &[u8]) -> usize {
    poll_fn(|cx| socket.poll_write(cx, bytes)).await.unwrap()
}

fn wants_write(socket: &Socket) -> bool {
    match &*socket.stream.borrow() {
        Stream::Tls(tls) => tls.wants_write(),
        Stream::Exchange(_) | Stream::Tcp(_) | Stream::Unix(_) => false,
    }
}

/// Writes until what was taken is not with the kernel: how much that is.
async fn write_until_something_stays_behind(socket: &Socket) -> usize {
    let mut written = 0;
    while !wants_write(socket) {
        written += write(socket, &[b'x'; 16 * 1024]).await;
        assert!(written < 64 << 20, "the kernel takes everything");
    }
    written
}

#[tokio::test]
async fn what_stays_behind_goes_when_somebody_reads() {
    let (socket, mut client) = pair().await;
    let written = write_until_something_stays_behind(&socket).await;
    let mut byte = [0; 1];
    let reading = poll_fn(|cx| socket.poll_read(cx, &mut byte));
    let mut got = vec![0; written];
    tokio::select! {
        biased;
        _ = reading => panic!("the client sends nothing"),
        read = timeout(PATIENCE, client.read_exact(&mut got)) => {
            assert_eq!(read.unwrap().unwrap(), written);
        }
    }
    assert!(!wants_write(&socket));
}

#[tokio::test]
async fn a_flush_is_done_when_nothing_stays_behind() {
    let (socket, mut client) = pair().await;
    let written = write_until_something_stays_behind(&socket).await;
    let mut cx = Context::from_waker(Waker::noop());
    assert!(socket.poll_flush(&mut cx).is_pending());
    assert!(socket.poll_write(&mut cx, b"more").is_pending(), "nothing may pile up");
    let mut got = vec![0; written];
    let flushing = poll_fn(|cx| socket.poll_flush(cx));
    let both = async { tokio::join!(flushing, client.read_exact(&mut got)) };
    let (flushed, read) = timeout(PATIENCE, both).await.unwrap();
    flushed.unwrap();
    assert_eq!(read.unwrap(), written);
    assert!(!wants_write(&socket));
}

#[tokio::test]
async fn an_end_waits_for_what_stayed_behind() {
    let (socket, mut client) = pair().await;
    let written = write_until_something_stays_behind(&socket).await;
    socket.half_close();
    let mut byte = [0; 1];
    let lingering = poll_fn(|cx| socket.poll_read(cx, &mut byte));
    let mut got = Vec::new();
    tokio::select! {
        biased;
        _ = lingering => panic!("the client sends nothing"),
        // Fails without close_notify, and does not end without FIN or close_notify.
        read = timeout(PATIENCE, client.read_to_end(&mut got)) => {
            assert_eq!(read.unwrap().unwrap(), written);
        }
    }
    // It can still be read from.
    client.write_all(b"late").await.unwrap();
    let mut late = [0; 16];
    assert_eq!(poll_fn(|cx| socket.poll_read(cx, &mut late)).await.unwrap(), 4);
}

#[tokio::test]
async fn a_look_finds_bytes_wherever_they_are() {
    let (socket, mut client) = pair().await;
    assert_eq!(socket.peek(), Peeked::Nothing);
    client.write_all(b"12").await.unwrap();
    assert_eq!(socket.peek(), Peeked::Bytes, "a record with the kernel");
    let mut byte = [0; 1];
    assert_eq!(poll_fn(|cx| socket.poll_read(cx, &mut byte)).await.unwrap(), 1);
    assert_eq!((socket.peek(), socket.has_event()), (Peeked::Bytes, Peeked::Bytes), "plaintext");
    assert_eq!(poll_fn(|cx| socket.poll_read(cx, &mut byte)).await.unwrap(), 1);
    assert_eq!((socket.peek(), byte), (Peeked::Nothing, *b"2"));
    // The beginning of a record.
    client.get_mut().0.write_all(&[23, 3, 3, 0, 99, 0]).await.unwrap();
    assert_eq!(socket.peek(), Peeked::Bytes);
    let mut cx = Context::from_waker(Waker::noop());
    poll_fn(|cx| match &*socket.stream.borrow() {
        Stream::Tls(tls) => tls.tcp().poll_read_ready(cx),
        Stream::Exchange(_) | Stream::Tcp(_) | Stream::Unix(_) => Poll::Pending,
    })
    .await
    .unwrap();
    assert!(socket.poll_read(&mut cx, &mut byte).is_pending());
    assert_eq!(socket.peek(), Peeked::Bytes, "within a record");
    drop(client);
    let end = poll_fn(|cx| socket.poll_read(cx, &mut byte)).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(socket.peek(), Peeked::End);
}
