//! Stored subscriptions as their subscribers see them, over a real socket, at one gateway and at two of one store.

mod asking;
mod at_once;
mod bounds;
mod breaking;
mod chance;
mod changes;
mod gaps;
mod listing;
mod many_aside;
mod moving;
mod ordered;
mod rocky;
mod set_aside;
mod shared;
pub(crate) mod world;
