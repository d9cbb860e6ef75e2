//! For how long, and how often, is signed?

use std::time::Duration;

use mesh_model::spiffe::TrustDomain;

use super::rotation::lead;

/// How an authority signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The trust domain that it speaks for.
    pub trust_domain: TrustDomain,
    /// How long a workload's certificate lives. A day: a stolen key is worth little, and a mesh lives through a night
    /// without its control plane.
    pub ttl: Duration,
    /// How long an issuer lives. A quarter: long enough to be quiet, short enough that renewal is no rare event.
    pub issuer_life: Duration,
    /// How long a root lives. Ten years: whoever has it in a file need not look at it again soon.
    pub root_life: Duration,
    /// How many certificates are signed a second, in the long run. Five thousand sidecars that renew daily need 0.1.
    pub per_second: u32,
    /// How many at once: a mesh that starts whole.
    pub burst: u32,
}

/// The shortest [`Settings::ttl`].
pub const MIN_TTL: Duration = Duration::from_secs(60);

/// The longest [`Settings::ttl`]: nobody wants to wait longer for a rotation of roots, which takes up to four of them.
pub const MAX_TTL: Duration = Duration::from_secs(30 * 86_400);

/// The longest life of anything: certificates know no year 10,000.
const MAX_LIFE: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What is wrong with the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// [`MIN_TTL`] and [`MAX_TTL`] say how long.
    #[error("certificates live for a minute at least and 30 days at most")]
    Ttl,
    /// Less than four times [`Settings::ttl`]: certificates would end with their issuer, before their time.
    #[error("an issuer lives at least four times as long as certificates")]
    IssuerLife,
    /// Too short for one rotation after another, or too long for a certificate.
    #[error(
        "a root lives at least twice as long as an issuer, four certificates and 20 minutes, and 100 years at most"
    )]
    RootLife,
    /// Nothing could be signed.
    #[error("at least one certificate a second, and at once, is signed")]
    Rate,
}

impl Settings {
    /// The defaults.
    pub fn new(trust_domain: TrustDomain) -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            trust_domain,
            ttl: DAY,
            issuer_life: 90 * DAY,
            root_life: 3650 * DAY,
            per_second: 100,
            burst: 1000,
        }
    }

    /// These settings with certificates of another life, and authorities that live long enough for them.
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self.issuer_life = self.issuer_life.max(ttl.saturating_mul(4));
        self
    }

    /// Whether certificates can be renewed, issuers and roots replaced in time.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), SettingsError> {
        if !(MIN_TTL..=MAX_TTL).contains(&self.ttl) {
            return Err(SettingsError::Ttl);
        }
        if self.issuer_life < 4 * self.ttl || self.issuer_life > MAX_LIFE {
            return Err(SettingsError::IssuerLife);
        }
        if self.root_life < 2 * lead(self) || self.root_life > MAX_LIFE {
            return Err(SettingsError::RootLife);
        }
        if self.per_second == 0 || self.burst == 0 {
            return Err(SettingsError::Rate);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::domain;

    #[test]
    fn lives_that_fit_into_each_other() {
        let good = Settings::new(domain());
        assert_eq!(good.check(), Ok(()));
        assert_eq!(good.clone().with_ttl(MIN_TTL).check(), Ok(()));
        assert_eq!(good.clone().with_ttl(MAX_TTL).check(), Ok(()));
        let seconds = Duration::from_secs;
        let of = |change: fn(&mut Settings)| {
            let mut settings = good.clone();
            change(&mut settings);
            settings.check()
        };
        assert_eq!(
            good.clone().with_ttl(seconds(59)).check(),
            Err(SettingsError::Ttl)
        );
        assert_eq!(
            good.clone().with_ttl(MAX_TTL + seconds(1)).check(),
            Err(SettingsError::Ttl)
        );
        assert_eq!(of(|s| s.issuer_life = 3 * s.ttl), Err(SettingsError::IssuerLife));
        assert_eq!(of(|s| s.root_life = s.issuer_life), Err(SettingsError::RootLife));
        assert_eq!(of(|s| s.root_life = Duration::MAX), Err(SettingsError::RootLife));
        assert_eq!(of(|s| s.burst = 0), Err(SettingsError::Rate));
    }
}
