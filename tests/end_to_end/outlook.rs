//! The Outlook connector over gRPC, against the sandbox's Graph.

mod batch;
mod burdens;
mod certificate;
mod change_email;
mod conformance;
mod delegated;
mod fault_table;
mod faults;
mod folder_paths;
mod get_attachment;
mod get_emails;
mod interrupted;
mod large_email;
mod new_email;
mod notifications;
mod repeats;
mod reply;

mod send_email;
mod sign_in;
mod stage;
mod strictness;
mod throttling;
mod through_gateway;
mod tls;
