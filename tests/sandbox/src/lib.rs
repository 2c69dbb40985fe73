//! A small world to run Postern against: for trying it out and for tests. Nothing in the product depends on it.

pub mod smtp;
