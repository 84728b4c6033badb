//! The bytes that all unfinished bodies hold together, and the share of one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bounds for all bodies, and for those of one address.
///
/// Without the second bound a few clients that never finish their bodies would leave nothing to
/// the others.
#[derive(Debug)]
pub struct Room {
    all: usize,
    share: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Only addresses that hold something.
    by_address: HashMap<IpAddr, usize>,
}

/// The bytes that one body holds, given back on drop.
#[derive(Debug)]
pub struct Held {
    room: Arc<Room>,
    address: IpAddr,
    bytes: usize,
}

impl Room {
    /// Makes room for `all` bytes, of which one address may take `share`.
    pub fn new(all: usize, share: usize) -> Arc<Self> {
        Arc::new(Self { all, share, taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Begins to count for a body from `address`.
    pub fn nothing(room: &Arc<Room>, address: IpAddr) -> Self {
        Self { room: Arc::clone(room), address: network(address), bytes: 0 }
    }

    /// Takes further bytes; `false` if there is no room for them.
    pub fn take(&mut self, bytes: usize) -> bool {
        let mut taken = self.room.taken();
        let of_address = taken.by_address.get(&self.address).copied().unwrap_or(0);
        let fits = |taken: usize, bound: usize| bytes <= bound.saturating_sub(taken);
        if !fits(taken.all, self.room.all) || !fits(of_address, self.room.share) {
            return false;
        }
        if bytes > 0 {
            taken.all += bytes;
            taken.by_address.insert(self.address, of_address + bytes);
            self.bytes += bytes;
        }
        true
    }

    /// Gives back what is no longer held.
    pub fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let mut taken = self.room.taken();
        taken.all = taken.all.saturating_sub(bytes);
        if let Some(of_address) = taken.by_address.get_mut(&self.address) {
            *of_address = of_address.saturating_sub(bytes);
            if *of_address == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

/// Returns what counts as one address: of IPv6 the network, since a host has 2^64 addresses there.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(room: &Arc<Room>, address: &str) -> Held {
        Held::nothing(room, address.parse().unwrap())
    }

    #[test]
    fn an_address_has_its_share_and_leaves_the_rest_to_others() {
        let room = Room::new(10, 4);
        let (mut one, mut two) = (held(&room, "10.0.0.1"), held(&room, "10.0.0.1"));
        assert!(one.take(3) && !two.take(2) && two.take(1));
        let mut others = [held(&room, "10.0.0.2"), held(&room, "10.0.0.3")];
        assert!(others[0].take(4) && !others[1].take(3) && others[1].take(2));
        one.give_back(2);
        assert!(two.take(2) && !two.take(1) && !one.take(usize::MAX));
        drop(one);
        assert!(two.take(1) && !two.take(1));
    }

    #[test]
    fn nothing_is_left_of_bodies_that_are_done() {
        let room = Room::new(10, 4);
        let mut one = held(&room, "10.0.0.1");
        assert!(one.take(0) && room.taken().by_address.is_empty());
        assert!(one.take(4));
        drop(one);
        drop(held(&room, "10.0.0.1"));
        let taken = room.taken();
        assert_eq!((taken.all, taken.by_address.len()), (0, 0));
    }

    #[test]
    fn the_addresses_of_one_host_are_one() {
        let same =
            |one: &str, two: &str| network(one.parse().unwrap()) == network(two.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::2:3"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
    }
}
