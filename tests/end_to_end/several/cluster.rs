//! Three nats-servers as one cluster, whose routes go through doors of the test: each server can be killed, started again,
//! and cut off from the others while its clients still reach it.

use std::net::SocketAddr;

use async_nats::jetstream;

use crate::client::Relay;
use crate::store::nats_server::NatsServer;
use crate::world::until;

/// How many servers.
pub(crate) const SERVERS: usize = 3;
/// Where nobody listens.
pub(crate) const NOWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// The cluster.
pub(crate) struct Cluster {
    servers: Vec<NatsServer>,
    /// By who goes through them, and to whom.
    doors: Vec<Vec<Relay>>,
}

impl Cluster {
    /// Starts one that takes streams. `None`: it was said that NATS is not to be tried.
    pub(crate) async fn start() -> Option<Self> {
        let (mut servers, mut doors) = (Vec::new(), Vec::new());
        for from in 0..SERVERS {
            let mut ways = Vec::new();
            for _ in 0..SERVERS {
                ways.push(Relay::before(NOWHERE).await);
            }
            // The way to itself leads nowhere: the routes say how many servers there are. What servers tell each other of
            // themselves leads nowhere too, so that they use the doors.
            let routes: Vec<_> = ways.iter().map(|way| format!("\"nats://{}\"", way.address())).collect();
            let settings = format!(
                "server_name: n{from}\ncluster {{ name: postern, listen: \"127.0.0.1:-1\", advertise: \"{NOWHERE}\", \
                 no_advertise: true, routes: [{}] }}\n",
                routes.join(", "),
            );
            servers.push(NatsServer::start_with(&settings).await?);
            doors.push(ways);
        }
        let cluster = Self { servers, doors };
        (0..SERVERS).for_each(|server| cluster.join(server));
        until("the cluster takes streams", || async {
            jetstream::new(cluster.connect().await?).query_account().await.ok()
        })
        .await;
        Some(cluster)
    }

    /// Where its servers are, separated by commas.
    pub(crate) fn addresses(&self) -> String {
        self.servers.iter().map(|server| server.servers().to_string()).collect::<Vec<_>>().join(",")
    }

    /// Where one of them is.
    pub(crate) fn address(&self, server: usize) -> SocketAddr {
        self.servers[server].address()
    }

    async fn connect(&self) -> Option<async_nats::Client> {
        async_nats::connect(self.addresses().split(',').collect::<Vec<_>>()).await.ok()
    }

    /// Kills a server as a crash would.
    pub(crate) fn kill(&mut self, server: usize) {
        self.servers[server].kill();
    }

    /// Starts a server that was killed.
    pub(crate) async fn start_again(&mut self, server: usize) {
        self.servers[server].run().await;
        self.join(server);
    }

    /// Cuts a server off from the others, who do not hear of it any more.
    pub(crate) fn cut_off(&self, server: usize) {
        for door in self.doors_of(server) {
            door.lead_to(NOWHERE);
            door.cut();
        }
    }

    /// Lets a server reach the others, and be reached.
    pub(crate) fn join(&self, server: usize) {
        for (from, ways) in self.doors.iter().enumerate() {
            for (to, door) in ways.iter().enumerate() {
                if from != to && (from == server || to == server) {
                    door.lead_to(self.servers[to].route());
                }
            }
        }
    }

    fn doors_of(&self, server: usize) -> impl Iterator<Item = &Relay> {
        let outward = self.doors[server].iter();
        let inward = self.doors.iter().enumerate().filter(move |(from, _)| *from != server);
        outward.chain(inward.map(move |(_, ways)| &ways[server]))
    }

    /// Who leads a stream.
    pub(crate) async fn leader(&self, stream: &str) -> usize {
        until("the stream has a leader", || async {
            let mut found = jetstream::new(self.connect().await?).get_stream(stream).await.ok()?;
            let leader = found.info().await.ok()?.cluster.clone()?.leader?;
            leader.strip_prefix('n')?.parse().ok()
        })
        .await
    }

    /// Waits until each server has all of a stream: else the death of another would take what only the two of them have.
    pub(crate) async fn is_whole(&self, stream: &str) {
        until("all servers have the stream", || async {
            let mut found = jetstream::new(self.connect().await?).get_stream(stream).await.ok()?;
            let cluster = found.info().await.ok()?.cluster.clone()?;
            let is_whole = cluster.leader.is_some() && cluster.replicas.iter().all(|peer| peer.current);
            is_whole.then_some(())
        })
        .await;
    }
}
