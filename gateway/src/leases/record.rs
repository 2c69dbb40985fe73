//! Gateways and leases as they lie in the store.
//!
//! - `gateways/{id}`: a gateway that lives, written again at each heartbeat.
//! - `leases/{partition}`: who owns a partition. Absent: nobody.

use prost::Message;

use super::PARTITIONS;
use crate::store::{Entry, Revision};

/// Where gateways lie.
pub(super) const MEMBERS: &str = "gateways/";
/// Where leases lie.
pub(super) const LEASES: &str = "leases/";

/// A gateway.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Member {
    /// Its heartbeats so far.
    #[prost(uint64, tag = "1")]
    pub(super) beats: u64,
    /// Where people find it.
    #[prost(string, tag = "2")]
    pub(super) address: String,
    /// Its version.
    #[prost(string, tag = "3")]
    pub(super) version: String,
    /// Whether it gives its leases to others.
    #[prost(bool, tag = "4")]
    pub(super) retiring: bool,
}

/// A lease.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Lease {
    /// The id of its owner.
    #[prost(string, tag = "1")]
    pub(super) owner: String,
}

/// A lease as stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub(super) owner: String,
    pub(super) revision: Revision,
}

/// The key of a gateway's record: deleted at its end, or once it is taken for dead.
#[must_use]
pub fn member_key(id: &str) -> String {
    format!("{MEMBERS}{id}")
}

/// The key of a partition's lease.
pub(super) fn lease_key(partition: usize) -> String {
    format!("{LEASES}{partition:02}")
}

/// The leases in a listing, by partition.
pub(super) fn leases(entries: Vec<Entry>) -> [Option<Known>; PARTITIONS] {
    let mut leases = [const { None }; PARTITIONS];
    for Entry { key, value, revision } in entries {
        let partition = key.strip_prefix(LEASES).and_then(|text| text.parse::<usize>().ok());
        if let Some(place) = partition.and_then(|partition| leases.get_mut(partition)) {
            // One that cannot be read is nobody's.
            let owner = Lease::decode(value).unwrap_or_default().owner;
            *place = Some(Known { owner, revision });
        }
    }
    leases
}
