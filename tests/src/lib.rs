//! What several of the programs here use.

pub mod memory;
