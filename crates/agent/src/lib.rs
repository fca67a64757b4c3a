//! From a home and settings to running tasks: what the command and other programs share.

pub mod armour;
mod identity;
mod invite;
pub mod network;
mod node;
mod package;
mod peers;
mod place;
mod settings;
mod succession;

pub use identity::{
    Identity, IdentityError, Initialised, PublicIdentity, initialise, load as load_identity,
    public as public_identity,
};
pub use invite::{InviteError, Offer, invite, likely_addresses};
pub use node::{
    AskPassphrase, Node, NodeError, ReadConfigError, machine_label, read_config, read_named_file,
};
pub use package::{MAX_PACKAGE_CERTIFICATES, Package, PackageError};
pub use peers::{PlanError, Planned, Planning, host_and_port, split_service};
pub use place::{NoHome, Surroundings};
pub use settings::{ConfigError, ConfigFile, DEFAULT_LISTEN, Setting, Source};
pub use succession::{
    HistoryFault, MAX_FILE_STATEMENTS, ReissueError, RollError, RollPlan, RollRequest, Rolled,
    Statement, StatementFileError, history, is_authority_of, plan_roll, read_key_file,
    reissue_membership, revoke, revoke_by_next_key, roll,
};
