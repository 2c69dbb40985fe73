//! The Outlook connector over gRPC, against the sandbox's Graph.

mod burdens;
mod conformance;
mod faults;
mod get_emails;
mod interrupted;
mod new_email;

mod send_email;
mod sign_in;
mod stage;
mod strictness;
mod tls;
