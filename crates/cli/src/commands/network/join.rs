//! What a join to a network comes to, in words.

use comity_agent::network::{Entered, Entry, OwnMembership, enter_membership, location_at};
use comity_identity::{NodeId, UnixTime};
use comity_store::NetworkError;
use comity_tls::Endpoint;
use comity_tls::network::VerifiedGrant;
use comity_trust::Name;
use comity_trust::invitation::Invitation;
use serde_json::{Value, json};

use crate::context::Context;

/// The network that an invitation made us a member of.
#[derive(Debug)]
pub(crate) struct JoinedNetwork {
    entered: Entered,
    /// What the network calls itself.
    name: String,
    roles: Vec<String>,
    until: UnixTime,
}

impl JoinedNetwork {
    /// Keeps the membership. The invitation said which network it is for, so nothing is asked.
    pub(crate) fn enter(
        endpoint: &Endpoint,
        grant: &VerifiedGrant,
        invitation: &Invitation,
        address: Option<&str>,
    ) -> Result<Self, NetworkError> {
        let bundle = grant.bundle();
        let inviter = address
            .and_then(|text| Name::parse(text).ok())
            .or_else(|| invitation.addresses.first().cloned());
        let source =
            inviter.and_then(|a| location_at(&a, &bundle.network(), &invitation.inviter).ok());
        let entry = Entry {
            label: None,
            recognise: true,
            source,
            taken: Vec::new(),
        };
        let entered = enter_membership(endpoint, grant, &entry)?;
        let cross = &grant.path().cross;
        Ok(Self {
            entered,
            name: bundle.name().to_owned(),
            roles: cross
                .metadata
                .as_ref()
                .map(|attested| attested.roles().to_vec())
                .unwrap_or_default(),
            until: cross.not_after,
        })
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "id": self.entered.network.to_string(), "label": self.entered.label,
            "name": self.name, "roles": self.roles, "until": self.until.to_string(),
            "new": self.entered.is_new,
        })
    }

    /// Says which network it is, what we are in it, and by whom.
    pub(crate) fn tell(&self, context: &Context, inviter: &str, id: NodeId) {
        let shell = context.shell;
        let label = &self.entered.label;
        shell.say(match self.entered.is_new {
            true => format!("joined the network {label}"),
            false => format!("still in the network {label}, with what this invitation adds"),
        });
        shell.say(format_args!("  id          {}", self.entered.network));
        shell.say(format_args!("  our role    {}", roles_text(&self.roles)));
        shell.say(format_args!("  until       {}, renewed before", self.until));
        shell.say(format_args!("  invited by  {inviter} ({id})"));
        tell_other_name(context, label, &self.name);
        shell.say("members recognise one another: `comity connect HOST:PORT/SERVICE`");
    }
}

/// A network that is called differently here: another one had its name first.
pub(crate) fn tell_other_name(context: &Context, label: &str, name: &str) {
    if label != name {
        context.shell.tell(format_args!(
            "it calls itself {name}, and is called {label} here: rules and commands take {label}"
        ));
    }
}

pub(crate) fn roles_text(roles: &[String]) -> String {
    match roles {
        [] => "none".to_owned(),
        roles => roles.join(", "),
    }
}

/// Our membership in a line.
pub(crate) fn membership_text(ours: &OwnMembership, now: UnixTime) -> String {
    let as_role = match ours.roles.as_slice() {
        [] => String::new(),
        roles => format!(" as {}", roles.join(", ")),
    };
    match ours.not_after < now {
        true => format!("member{as_role} until {}: over", ours.not_after),
        false => format!(
            "member{as_role} until {} ({})",
            ours.not_after,
            days_text(now, ours.not_after)
        ),
    }
}

/// `3 days left`.
pub(crate) fn days_text(now: UnixTime, end: UnixTime) -> String {
    match now.until(end).as_secs() / 86_400 {
        1 => "1 day left".to_owned(),
        days => format!("{days} days left"),
    }
}
