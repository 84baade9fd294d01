//! Where clients come from.

/// A bound socket a door accepts connections from.
#[derive(Debug)]
pub enum Listener {
    /// TCP, IPv4 or IPv6.
    Tcp(async_net::TcpListener),
    /// A Unix socket; who may open its file may speak.
    Unix(async_net::unix::UnixListener),
}

impl From<async_net::TcpListener> for Listener {
    fn from(listener: async_net::TcpListener) -> Self {
        Listener::Tcp(listener)
    }
}

impl From<async_net::unix::UnixListener> for Listener {
    fn from(listener: async_net::unix::UnixListener) -> Self {
        Listener::Unix(listener)
    }
}
