//! One run: machines, a provider, callers and readers under faults for a while, then calm weather until all is settled.

mod start;
mod storm;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_chassis::serve::BoxError;
use postern_gateway::seal::KeyRing;
use postern_tests::memory::Disk;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cable::{Cable, Cables};
use crate::callers::Caller;
use crate::journal::Journal;
use crate::machine::{Around, Gateway, Machine, Ready, TICK, gateway};
use crate::provider::{COPIES, Provider};
use crate::readers::{Book, Reader, Way as Reading};
use crate::user::User;
use crate::way::Way;
use crate::weather::{Counted, Weather, lock};

/// Each trigger and the folder that it watches: two share one.
pub(crate) const TRIGGERS: [(&str, &str); 3] = [("one", "a"), ("two", "a"), ("three", "b")];
/// How long the weather is bad.
const STORM: Duration = Duration::from_secs(22);
/// Faults begin and end every so many ticks.
const TICKS: usize = 3;
/// How long it may take until all is settled after it.
const SETTLING: Duration = Duration::from_secs(150);
/// How long a run may take to begin.
const BEGINNING: Duration = Duration::from_secs(60);

/// A gateway and the machine that it is on, while it is.
struct Place {
    machine: Option<Machine>,
    ready: Ready,
    way: Option<Arc<Way>>,
    stop: CancellationToken,
    kept: Option<JoinHandle<Result<(), BoxError>>>,
    /// When it is started again.
    back: Duration,
    mended: Duration,
    ahead: i64,
    starts: usize,
}

/// Who acts, and what they do now.
enum Actor {
    Caller(Arc<Caller>),
    Reader(Arc<Reader>),
    User(Arc<User>),
}

pub(crate) struct World {
    pub(crate) weather: Arc<Weather>,
    pub(crate) disk: Arc<Disk>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) outside: Machine,
    /// The sources of triggers that have lost a cursor.
    pub(crate) gaps_due: BTreeSet<String>,
    keys: Arc<KeyRing>,
    cables: Arc<Cables>,
    copies: Vec<mpsc::UnboundedSender<Cable>>,
    places: Vec<Place>,
    actors: Vec<(Actor, Option<JoinHandle<()>>)>,
    /// When each copy of the connector is back, and each stall ends.
    copies_back: [Duration; COPIES],
    flowing: Duration,
    now: Duration,
}

impl World {
    /// What a run begins with.
    pub(crate) fn new(seed: u64, is_told: bool, keys: Arc<KeyRing>) -> Result<Self, BoxError> {
        let weather = Weather::new(seed, is_told);
        let outside = Machine::start(Duration::ZERO, 0)?;
        let (disk, provider, mut copies) = (Disk::new(), Provider::new(&weather), Vec::new());
        for _ in 0..COPIES {
            let (sender, cables) = mpsc::unbounded_channel();
            copies.push(sender);
            let serving = provider.clone().serve(cables);
            outside.handle().map(|handle| handle.spawn(serving));
        }
        let count = 2 + weather.below(2);
        let places = (0..count).map(|_| Place {
            machine: None,
            ready: Ready::default(),
            way: None,
            stop: CancellationToken::new(),
            kept: None,
            back: Duration::ZERO,
            mended: Duration::ZERO,
            ahead: i64::try_from(weather.below(20_000)).unwrap_or(0) - 10_000,
            starts: 0,
        });
        let places = places.collect();
        Ok(Self {
            weather,
            disk,
            journal: Arc::default(),
            provider,
            outside,
            gaps_due: BTreeSet::new(),
            keys,
            cables: Arc::default(),
            copies,
            places,
            actors: Vec::new(),
            copies_back: Default::default(),
            flowing: Duration::ZERO,
            now: Duration::ZERO,
        })
    }

    /// Runs to the end. Gives how much of simulated time it took.
    pub(crate) fn run(&mut self) -> Result<Duration, BoxError> {
        self.weather.trace(format_args!("{:?}", self.weather.climate));
        let signs_in = self.weather.climate.signs_in;
        let user = signs_in.then(|| Arc::new(User { weather: self.weather.clone() }));
        self.begin(&user)?;
        self.actors.extend(user.map(|user| (Actor::User(user), None)));
        for (name, queues) in [("sends", false), ("queues", true)] {
            self.actors.push((Actor::Caller(Caller::new(name, queues, &self.weather)), None));
        }
        let readers = [
            ("follows", Reading::Follows, None),
            ("commits-1", Reading::Commits, None),
            ("commits-2", Reading::Commits, Some(1)),
            ("acks-1", Reading::Acks, None),
            ("acks-2", Reading::Acks, Some(3)),
        ];
        let mut books: Vec<Arc<Mutex<Book>>> = Vec::new();
        for (name, way, shared) in readers {
            let book: Arc<Mutex<Book>> =
                shared.and_then(|at: usize| books.get(at).cloned()).unwrap_or_default();
            books.push(book.clone());
            let (journal, weather) = (self.journal.clone(), self.weather.clone());
            let reader = Reader { name, way, book, journal, weather };
            self.actors.push((Actor::Reader(Arc::new(reader)), None));
        }
        self.weather.calm(false);
        let storm = self.now + STORM;
        while self.now < storm {
            self.strike();
            for _ in 0..TICKS {
                self.step()?;
            }
        }
        self.weather.calm(true);
        self.mend();
        let end = self.now + SETTLING;
        while self.now < end && !self.is_settled() {
            for _ in 0..TICKS {
                self.step()?;
            }
        }
        for open in self.open_ends() {
            self.weather.wrong(format!("in the end: {open}"));
        }
        self.check();
        self.weather.count(Counted::Events, self.journal.read().ids.len());
        self.weather.count(Counted::SimulatedSeconds, usize::try_from(self.now.as_secs()).unwrap_or(0));
        Ok(self.now)
    }

    /// Makes the connection, the triggers and the subscriptions, in calm weather.
    fn begin(&mut self, user: &Option<Arc<User>>) -> Result<(), BoxError> {
        let mut making: Option<JoinHandle<Result<(), BoxError>>> = None;
        while self.now < BEGINNING {
            self.step()?;
            match making.take_if(|making| making.is_finished()) {
                Some(made) => return self.outside.on(made).ok_or("no machine")??,
                None if making.is_none() => {
                    let gateway = lock(&self.places[0].ready).clone();
                    let handle = self.places[0].machine.as_ref().and_then(Machine::handle);
                    making = gateway
                        .zip(handle)
                        .map(|(gateway, handle)| handle.spawn(start::make(gateway, user.clone())));
                }
                None => {}
            }
        }
        Err("the gateways did not start".into())
    }

    /// Has each machine run for a tick, and starts what is to be started.
    fn step(&mut self) -> Result<(), BoxError> {
        self.now += TICK;
        for number in 0..self.places.len() {
            self.start(number)?;
            if let Some(machine) = &self.places[number].machine {
                machine.run();
            }
        }
        self.outside.run();
        for (actor, session) in &mut self.actors {
            if session.as_ref().is_some_and(|session| !session.is_finished()) || self.weather.below(10) > 0 {
                continue;
            }
            let place = &self.places[self.weather.below(self.places.len())];
            let Some(gateway) = lock(&place.ready).clone() else { continue };
            let Some(handle) = place.machine.as_ref().and_then(Machine::handle) else { continue };
            *session = Some(match actor {
                Actor::Caller(caller) => handle.spawn(caller.clone().session(gateway)),
                Actor::Reader(reader) => handle.spawn(reader.clone().session(gateway)),
                Actor::User(user) => handle.spawn(user.clone().session(gateway)),
            });
        }
        Ok(())
    }

    /// Starts a gateway that is not there, or has ended.
    fn start(&mut self, number: usize) -> Result<(), BoxError> {
        let place = &mut self.places[number];
        if place.kept.as_ref().is_some_and(JoinHandle::is_finished) {
            (place.machine, place.kept) = (None, None);
            place.back = self.now + Duration::from_millis(500);
        }
        if place.machine.is_some() || self.now < place.back {
            return Ok(());
        }
        place.starts += 1;
        let machine = Machine::start(self.now, place.ahead)?;
        let Some(outside) = self.outside.handle().cloned() else { return Ok(()) };
        let name = format!("gateway-{number}.{}", place.starts);
        self.weather.trace(format_args!("{:?} {name} starts", self.now));
        let way = Way::new((&self.disk, &self.journal), &self.weather, outside, name);
        place.stop = CancellationToken::new();
        place.ready = Ready::default();
        let around = Around {
            way: way.clone(),
            provider: self.provider.clone(),
            cables: self.cables.clone(),
            copies: self.copies.clone(),
            keys: self.keys.clone(),
            climate: self.weather.climate,
            gateway: number,
            stop: place.stop.clone(),
        };
        place.kept = machine.handle().map(|handle| handle.spawn(gateway(around, place.ready.clone())));
        place.way = Some(way);
        place.machine = Some(machine);
        Ok(())
    }

    /// The gateways that are there.
    pub(crate) fn gateways(&self) -> Vec<Option<Gateway>> {
        self.places.iter().map(|place| lock(&place.ready).clone()).collect()
    }

    pub(crate) fn callers(&self) -> impl Iterator<Item = &Arc<Caller>> {
        self.actors.iter().filter_map(|(actor, _)| match actor {
            Actor::Caller(caller) => Some(caller),
            Actor::Reader(_) | Actor::User(_) => None,
        })
    }

    pub(crate) fn readers(&self) -> impl Iterator<Item = &Arc<Reader>> {
        self.actors.iter().filter_map(|(actor, _)| match actor {
            Actor::Reader(reader) => Some(reader),
            Actor::Caller(_) | Actor::User(_) => None,
        })
    }
}
