mod events;
mod invariants;
mod outside;
mod store;
