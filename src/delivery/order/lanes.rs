//! The lanes: one per conflict key that somebody in the book has, kept small.
//!
//! A million operations may wait, each with keys of its own, so every byte here counts a million
//! times. The map holds numbers, the lanes stand in a list, and operations refer to them by number.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::{NONE, Slot};

/// Number of a lane.
pub type LaneId = u32;

/// No batch: nobody may join what is under way.
pub const NO_BATCH: u32 = 0;

/// Conflict keys are hashes already; hashing them again would only cost time.
#[derive(Clone, Copy, Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// The operations of one conflict key.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    pub key: u64,
    /// First operation that is not under way.
    pub first: Slot,
    /// Last operation that is not under way.
    pub last: Slot,
    /// How many are under way; all of them in the same parcel.
    pub under_way: u32,
    /// The batch in which they travel; [`NO_BATCH`] if it tolerates no company in this lane.
    pub batch: u32,
}

/// All lanes that are not empty.
#[derive(Debug, Default)]
pub struct Lanes {
    by_key: HashMap<u64, LaneId, BuildHasherDefault<KeyHasher>>,
    lanes: Vec<Lane>,
    free: Vec<LaneId>,
}

impl Lanes {
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub fn get(&self, id: LaneId) -> Option<&Lane> {
        self.lanes.get(id as usize)
    }

    pub fn get_mut(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.lanes.get_mut(id as usize)
    }

    /// Returns the lane of a key, a new one if need be.
    pub fn of(&mut self, key: u64) -> LaneId {
        let (lanes, free) = (&mut self.lanes, &mut self.free);
        *self.by_key.entry(key).or_insert_with(|| {
            let lane = Lane { key, first: NONE, last: NONE, under_way: 0, batch: NO_BATCH };
            let reused = free.pop().and_then(|id| Some((id, lanes.get_mut(id as usize)?)));
            match reused {
                Some((id, place)) => {
                    *place = lane;
                    id
                }
                None => {
                    lanes.push(lane);
                    (lanes.len() - 1) as LaneId
                }
            }
        })
    }

    /// Removes a lane in which nobody is left.
    pub fn remove(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get(id as usize)
            && self.by_key.remove(&lane.key).is_some()
        {
            self.free.push(id);
        }
    }
}

/// An operation's place in one lane.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub lane: LaneId,
    /// The operation behind it there.
    pub behind: Slot,
}

/// An operation's places in all of its lanes, sorted by lane. Nearly all have one or two.
#[derive(Debug)]
pub enum Places {
    None,
    One([Place; 1]),
    Two([Place; 2]),
    Many(Box<[Place]>),
}

impl Places {
    /// Takes the lanes, sorted and without repeats.
    pub fn new(lanes: &[LaneId]) -> Self {
        let place = |lane| Place { lane, behind: NONE };
        match *lanes {
            [] => Self::None,
            [one] => Self::One([place(one)]),
            [one, two] => Self::Two([place(one), place(two)]),
            _ => Self::Many(lanes.iter().map(|lane| place(*lane)).collect()),
        }
    }

    pub fn all(&self) -> &[Place] {
        match self {
            Self::None => &[],
            Self::One(places) => places,
            Self::Two(places) => places,
            Self::Many(places) => places,
        }
    }

    /// Notes who stands behind in a lane.
    pub fn link(&mut self, lane: LaneId, behind: Slot) {
        let places: &mut [Place] = match self {
            Self::None => &mut [],
            Self::One(places) => places,
            Self::Two(places) => places,
            Self::Many(places) => places,
        };
        if let Ok(at) = places.binary_search_by_key(&lane, |place| place.lane)
            && let Some(place) = places.get_mut(at)
        {
            place.behind = behind;
        }
    }
}
