//! The Outlook connector over gRPC, against the sandbox's Graph.

mod change_email;
mod conformance;
mod faults;
mod folder_paths;
mod get_attachment;
mod get_emails;
mod interrupted;
mod large_email;
mod new_email;
mod repeats;
mod reply;
mod send_email;
mod sign_in;
mod stage;
mod strictness;
mod tls;
