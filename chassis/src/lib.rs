//! What every Postern service does at its edges: settings, telemetry, faults, health, reflection, TLS and shutdown.
//!
//! It knows the contract's error model and the metadata between gateway and connector; it knows no provider.

pub mod deadline;
pub mod digest;
pub mod fault;
pub mod gather;
pub mod healthcheck;
mod linger;
pub mod metrics;
pub mod opened;
pub mod program;
pub mod serve;
pub mod settings;
pub mod shutdown;
pub mod sign_in;
pub mod telemetry;
pub mod tls;
pub mod untrusted;
