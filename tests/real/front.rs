//! A front that steers connections and knows no protocol: like kube-proxy's NAT, a change of the endpoint concerns new
//! connections only.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A listener whose connections are carried to an endpoint. They end when this is dropped.
pub(crate) struct Front {
    pub(crate) addr: SocketAddr,
    endpoint: Arc<Mutex<SocketAddr>>,
    accepted: Arc<AtomicU64>,
    /// Held for its drop.
    _task: JoinSet<()>,
}

// === impl Front ===

impl Front {
    pub(crate) async fn start(endpoint: SocketAddr) -> Result<Self, String> {
        let say = |error: std::io::Error| format!("the front can't listen: {error}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(say)?;
        let addr = listener.local_addr().map_err(say)?;
        let endpoint = Arc::new(Mutex::new(endpoint));
        let mut task = JoinSet::new();
        let accepted = Arc::default();
        task.spawn(steer(listener, Arc::clone(&endpoint), Arc::clone(&accepted)));
        Ok(Self { addr, endpoint, accepted, _task: task })
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// New connections go there from now on.
    pub(crate) fn set_endpoint(&self, endpoint: SocketAddr) {
        *self.endpoint.lock().unwrap_or_else(PoisonError::into_inner) = endpoint;
    }
}

// === helpers ===

async fn steer(listener: TcpListener, endpoint: Arc<Mutex<SocketAddr>>, accepted: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        accepted.fetch_add(1, Ordering::Relaxed);
        while connections.try_join_next().is_some() {}
        let endpoint = *endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        connections.spawn(carry(client, endpoint));
    }
}

/// Both are dropped when one of them fails: the peers see that.
async fn carry(mut client: TcpStream, endpoint: SocketAddr) {
    let Ok(mut pod) = TcpStream::connect(endpoint).await else { return };
    let _nodelay = (client.set_nodelay(true), pod.set_nodelay(true));
    let _bytes = copy_bidirectional(&mut client, &mut pod).await;
}
