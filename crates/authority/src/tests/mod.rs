//! Tests of an authority as a whole, by subject.

mod admitting;
mod crashes;
mod founding;
mod keys;
mod leaves;
mod states;
mod successions;
mod withdrawing;
mod world;
