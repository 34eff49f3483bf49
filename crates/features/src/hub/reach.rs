//! Whether the Hub's address takes a connection at all.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long one address may take to answer.
const PATIENCE: Duration = Duration::from_secs(8);

pub(super) enum Refusal {
    /// The endpoint is not `http://host[:port]` or `https://host[:port]`.
    NoAddress,
    /// No connection, for this reason.
    NoConnection(String),
}

/// Opens and closes a connection to the endpoint. Behind a proxy nothing is tried: the name may mean nothing here.
pub(super) fn attempt(endpoint: &str) -> Result<(), Refusal> {
    let (host, port) = host_and_port(endpoint).ok_or(Refusal::NoAddress)?;
    let proxies = ["https_proxy", "http_proxy", "all_proxy"];
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if proxies.iter().any(|name| set(name) || set(&name.to_uppercase())) {
        return Ok(());
    }
    let addresses = (host, port).to_socket_addrs().map_err(|error| Refusal::NoConnection(error.to_string()))?;
    let mut reason = format!("`{host}` has no address");
    // One address of each family will do: the others are the same service.
    for address in addresses.take(3) {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(Refusal::NoConnection(reason))
}

fn host_and_port(endpoint: &str) -> Option<(&str, u16)> {
    let (rest, standard) = match endpoint.split_once("://")? {
        ("http", rest) => (rest, 80),
        ("https", rest) => (rest, 443),
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = port.map_or(Some(standard), |port| port.parse().ok())?;
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn addresses_are_read() {
        assert_eq!(host_and_port("https://huggingface.co"), Some(("huggingface.co", 443)));
        assert_eq!(host_and_port("http://hub.example/mirror"), Some(("hub.example", 80)));
        assert_eq!(host_and_port("http://user:pw@127.0.0.1:8080/x"), Some(("127.0.0.1", 8080)));
        assert_eq!(host_and_port("http://[::1]:81"), Some(("::1", 81)));
        for wrong in ["huggingface.co", "ftp://x", "http://", "http://x:port", "http://x:99999", ""] {
            assert_eq!(host_and_port(wrong), None, "{wrong}");
        }
    }
}
