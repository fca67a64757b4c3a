//! Tests of an authority as a whole, by subject.

mod admitting;
mod crashes;
mod founding;
mod keys;
mod leaves;
mod states;
mod stolen;
mod successions;
mod withdrawing;
mod world;
