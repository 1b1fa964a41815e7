//! Sockets that have not shown a key yet. Anybody may begin one, so they are few: in all, and of
//! one client, lest one keeps all others out.
//!
//! Must never happen here: an entry that stays when nobody holds it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use agent_api::Problem;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

const ALL: usize = 2048;
/// Of one client: an IPv4 address, or an IPv6 network of 64 bits.
const OF_ONE: usize = 256;

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Strangers(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    all: usize,
    clients: HashMap<IpAddr, usize>,
}

/// A place, given back when it is dropped.
pub(super) struct Stranger {
    strangers: Strangers,
    client: IpAddr,
}

impl Strangers {
    /// A place for one more of this client.
    ///
    /// # Errors
    /// 503 when all are taken, 429 when this client has too many.
    pub(super) fn admit(&self, client: IpAddr) -> Result<Stranger, Problem> {
        let mut counts = self.0.lock();
        if counts.all >= ALL {
            let detail = "too many connections wait to show their key; try again";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1));
        }
        let of_one = counts.clients.entry(client).or_default();
        if *of_one >= OF_ONE {
            let detail = "too many of your connections have not shown their key yet";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(1));
        }
        *of_one += 1;
        counts.all += 1;
        Ok(Stranger {
            strangers: self.clone(),
            client,
        })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut counts = self.strangers.0.lock();
        counts.all -= 1;
        if let Some(of_one) = counts.clients.get_mut(&self.client) {
            *of_one -= 1;
            if *of_one == 0 {
                counts.clients.remove(&self.client);
            }
        }
    }
}

/// Who asks, as the gateway says. It takes such headers off and puts its own in.
pub(super) fn client(headers: &HeaderMap) -> IpAddr {
    let said = headers
        .get("x-forwarded-for")
        .and_then(|value| value.to_str().ok());
    match said.and_then(|text| text.trim().parse().ok()) {
        Some(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
            Some(address) => IpAddr::V4(address),
            None => {
                let network = u128::from(address) >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from(network))
            }
        },
        Some(address) => address,
        None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_does_not_keep_others_out() {
        let strangers = Strangers::default();
        let (one, other) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let mut places: Vec<_> = (0..OF_ONE)
            .map(|_| strangers.admit(one).ok().unwrap())
            .collect();
        assert_eq!(strangers.admit(one).err().unwrap().status().as_u16(), 429);
        let another = strangers.admit(other).ok().unwrap();
        places.pop();
        assert!(strangers.admit(one).is_ok());
        drop((places, another));
        let counts = strangers.0.lock();
        assert_eq!((counts.all, counts.clients.len()), (0, 0));
    }

    #[test]
    fn clients_are_told_apart_by_what_the_gateway_says() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", text.parse().unwrap());
            client(&headers)
        };
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("nonsense"), client(&HeaderMap::new()));
    }
}
