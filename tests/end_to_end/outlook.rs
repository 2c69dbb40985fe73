//! The Outlook connector over gRPC, against the sandbox's Graph.

mod batch;
mod certificate;
mod conformance;
mod delegated;
mod fault_table;
mod faults;
mod get_emails;
mod interrupted;
mod new_email;
mod send_email;
mod sign_in;
mod stage;
mod strictness;
mod throttling;
mod through_gateway;
mod tls;
