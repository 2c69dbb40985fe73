//! What the connectors said of themselves, as a table that is replaced whole when one of them says something new: calls
//! read it without waiting. A connector that goes away stays in it.

use std::collections::HashMap;
use std::sync::Arc;

use postern_proto::connector::v1::DescribeResponse;
use tonic::transport::Uri;

use super::{Replica, is_own};

/// A connector: the replicas that act for one kind of connection.
#[derive(Debug)]
pub struct Connector {
    description: DescribeResponse,
    replicas: Vec<Arc<Replica>>,
}

impl Connector {
    /// The kind of connection it acts for.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.description.kind
    }

    /// What it said of itself; with several replicas, what the first of them said.
    #[must_use]
    pub fn description(&self) -> &DescribeResponse {
        &self.description
    }

    /// The replicas in the order in which to try them for a connection. A connection sticks to one of them (rendezvous
    /// hashing: when a replica goes, only its connections move); those that are not reached come last.
    #[must_use]
    pub fn replicas_for(&self, connection: &str) -> Vec<Arc<Replica>> {
        let mut order = self.replicas.clone();
        if order.len() > 1 {
            order.sort_by_cached_key(|replica| {
                (!replica.is_reached(), std::cmp::Reverse(score(replica.uri(), connection)))
            });
        }
        order
    }
}

/// How much a connection is drawn to an address: the same in every gateway, whenever it was started. FNV-1a over both
/// names, then the finalizer of MurmurHash3, which spreads what FNV leaves alike.
fn score(address: &Uri, connection: &str) -> u64 {
    let authority = address.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let bytes = authority.bytes().chain([0]).chain(connection.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// What each address said, and what follows from it.
#[derive(Debug)]
pub(super) struct Table {
    said: Vec<(Arc<Replica>, Option<DescribeResponse>)>,
    kinds: HashMap<String, Arc<Connector>>,
    services: HashMap<String, Arc<Connector>>,
}

impl Table {
    /// A table of addresses that have said nothing yet.
    pub(super) fn new(replicas: Vec<Arc<Replica>>) -> Self {
        let said = replicas.into_iter().map(|replica| (replica, None)).collect();
        Self { said, kinds: HashMap::new(), services: HashMap::new() }
    }

    /// The table after an address said what it is; `None` where that is nothing new.
    pub(super) fn with(&self, replica: &Arc<Replica>, answer: DescribeResponse) -> Option<Self> {
        let mut said = self.said.clone();
        let place = said.iter_mut().find(|(known, _)| Arc::ptr_eq(known, replica))?;
        if place.1.as_ref() == Some(&answer) {
            return None;
        }
        tracing::info!(
            connector.address = %replica.uri(), connector.kind = answer.kind, connector.version = answer.version,
            "a connector said what it is"
        );
        place.1 = Some(answer);
        Some(Self::of(said))
    }

    fn of(said: Vec<(Arc<Replica>, Option<DescribeResponse>)>) -> Self {
        let mut kinds: HashMap<String, Connector> = HashMap::new();
        for (replica, answer) in &said {
            let Some(answer) = answer else { continue };
            kinds
                .entry(answer.kind.clone())
                .or_insert_with(|| Connector { description: answer.clone(), replicas: Vec::new() })
                .replicas
                .push(replica.clone());
        }
        let kinds: HashMap<_, _> = kinds.into_iter().map(|(kind, it)| (kind, Arc::new(it))).collect();
        let mut services: HashMap<String, Arc<Connector>> = HashMap::new();
        for answer in said.iter().filter_map(|(_, answer)| answer.as_ref()) {
            let Some(connector) = kinds.get(&answer.kind) else { continue };
            for service in answer.services.iter().filter(|service| !is_own(service)) {
                let holder = services.entry(service.clone()).or_insert_with(|| connector.clone());
                if holder.kind() != connector.kind() {
                    tracing::warn!(
                        service,
                        kind = connector.kind(),
                        holder = holder.kind(),
                        "two kinds of connector take the same service: the first keeps it"
                    );
                }
            }
        }
        Self { said, kinds, services }
    }

    /// The addresses that have not said what they are.
    pub(super) fn undescribed(&self) -> Vec<String> {
        let silent = self.said.iter().filter(|(_, answer)| answer.is_none());
        silent.map(|(replica, _)| replica.uri().to_string()).collect()
    }

    /// The addresses that did not answer when they were last asked, or not yet.
    pub(super) fn unreached(&self) -> Vec<String> {
        let silent = self.said.iter().filter(|(replica, answer)| answer.is_none() || !replica.is_reached());
        silent.map(|(replica, _)| replica.uri().to_string()).collect()
    }

    pub(super) fn kind(&self, kind: &str) -> Option<&Arc<Connector>> {
        self.kinds.get(kind)
    }

    pub(super) fn service(&self, service: &str) -> Option<&Arc<Connector>> {
        self.services.get(service)
    }

    pub(super) fn services(&self) -> Vec<String> {
        let mut services: Vec<_> = self.services.keys().cloned().collect();
        services.sort_unstable();
        services
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::Watchfulness;

    fn replica(address: &str) -> Arc<Replica> {
        Arc::new(Replica::new(address.parse().unwrap(), None, Watchfulness::default()).unwrap())
    }

    fn said(kind: &str, services: &[&str]) -> DescribeResponse {
        let services = services.iter().map(ToString::to_string).collect();
        DescribeResponse { kind: kind.into(), services, ..Default::default() }
    }

    #[tokio::test]
    async fn a_connection_sticks_to_a_replica_and_moves_only_when_that_one_is_lost() {
        let replicas: Vec<_> = (1..=3).map(|port| replica(&format!("http://127.0.0.1:{port}"))).collect();
        let mut table = Table::new(replicas.clone());
        for replica in &replicas {
            table = table.with(replica, said("post", &[])).unwrap();
        }
        let connector = table.kind("post").unwrap();
        let names: Vec<_> = (0..300).map(|number| format!("connections/c{number:03}")).collect();
        let first = |name: &String| connector.replicas_for(name)[0].uri().port_u16().unwrap();
        let before: Vec<_> = names.iter().map(first).collect();
        for port in 1..=3 {
            let share = before.iter().filter(|chosen| **chosen == port).count();
            assert!((60..140).contains(&share), "replica {port} has {share} of 300");
        }
        replicas[0].mark_lost();
        for (name, before) in names.iter().zip(before) {
            let now = first(name);
            assert!(if before == 1 { now != 1 } else { now == before }, "{name}: {before} to {now}");
            assert_eq!(connector.replicas_for(name)[2].uri().port_u16(), Some(1));
        }
    }

    #[tokio::test]
    async fn no_connector_takes_what_is_the_gateways_or_anothers() {
        let (one, two) = (replica("http://a:1"), replica("http://b:1"));
        let table = Table::new(vec![one.clone(), two.clone()]);
        let own = "postern.connection.v1.ConnectionService";
        let table = table.with(&one, said("post", &["post.v1.Post", own])).unwrap();
        assert_eq!(table.undescribed(), ["http://b:1/"]);
        let table = table.with(&two, said("calendar", &["calendar.v1.Calendar", "post.v1.Post"])).unwrap();
        assert_eq!(table.services(), ["calendar.v1.Calendar", "post.v1.Post"]);
        assert_eq!(table.service("post.v1.Post").unwrap().kind(), "post");
        assert!(table.with(&one, said("post", &["post.v1.Post", own])).is_none());
    }
}
