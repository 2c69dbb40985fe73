//! The Outlook connector over gRPC, against the sandbox's Graph.

mod agenda;
mod calendar;
mod calendar_conformance;
mod calendar_rounds;
mod conformance;
mod contacts;
mod events;
mod events_deleted;
mod faults;
mod get_emails;
mod interrupted;
mod new_email;
mod send_email;
mod sign_in;
mod stage;
mod strictness;
mod tls;
mod zones;
