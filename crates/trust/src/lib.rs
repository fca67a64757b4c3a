//! Recognition and grants as one pure function, and the memory it reads.

mod authority;
mod decide;
mod edit;
mod entry;
mod escape;
mod grants;
pub mod invitation;
mod known_peers;
mod line;
mod mode;
mod name;
mod nearest;
mod pattern;
mod reason;
mod target;
mod verdict;

pub use decide::{decide, explain, free_label};
pub use edit::{Edit, EditError};
pub use entry::{Attributes, Confirmed, Entry, Origin, ParseOriginError, Pin, Side, What};
pub use grants::{AllowRule, AllowRuleError, Grants, authorise};
pub use known_peers::{HEADER, KnownPeers, MAX_FILE_BYTES, ParseError};
pub use line::{Cause, MAX_ATTRIBUTES, MAX_LINE_BYTES, MAX_VALUE_BYTES, MAX_VALUES};
pub use mode::{Direction, Mode, ParseModeError, Phase};
pub use name::{MAX_LABEL_CHARS, Name, NameError};
pub use pattern::{MAX_NAMES, MAX_PATTERN_BYTES, NameItem, Names, NamesError, Pattern};
pub use reason::{ParseReasonError, Reason};
pub use target::DEFAULT_PORT;
pub use verdict::{
    Evidence, Expectation, Explanation, How, Invited, Invitee, KnownPin, Outcome, Query,
    Recognition, Refusal, Rule, Step, Verdict, Warning,
};
