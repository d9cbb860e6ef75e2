//! What does the control thread show: updates, names, certificates?

use super::super::control_plane::ControlPlaneReport;
use super::super::report::Report;
use super::text::{COUNTER, GAUGE, Text};

pub(super) fn write(text: &mut Text, report: &Report) {
    let control = &report.control;
    let help = "Configurations that went live or were refused.";
    let results = [
        ("applied", control.updates_applied),
        ("refused", control.updates_refused),
    ];
    by_result(text, "mesh_config_updates_total", help, results);
    control_plane(text, control.control_plane.as_ref());
    let help = "Panics that were caught.";
    text.single("mesh_panics_total", COUNTER, help, Some(control.panics));

    let lookups = control
        .lookups
        .iter()
        .map(|(result, count)| (result.as_str(), *count));
    by_result(text, "mesh_dns_lookups_total", "Lookups of names.", lookups);
    let names: Vec<_> = report
        .names
        .iter()
        .map(|sample| {
            let labels = [("name", sample.name.as_str()), ("kind", sample.kind.as_str())];
            (text.series(&labels), sample)
        })
        .collect();
    let name = "mesh_dns_answer_age_seconds";
    text.family(name, GAUGE, "How long ago the last good answer for a name came.");
    for (series, sample) in &names {
        if let Some(age) = sample.age {
            text.sample(name, series, &[], age as f64 / 1e9);
        }
    }
    let help = "Lookups of a name that have failed since its last good answer.";
    text.numbers(&names, "mesh_dns_consecutive_failures", GAUGE, help, |sample| {
        sample.failures
    });

    let help = "Changed certificates, keys and roots that are in use or were refused.";
    let results = [
        ("success", control.reloads_done),
        ("failure", control.reloads_refused),
    ];
    by_result(text, "mesh_tls_reloads_total", help, results);
    let name = "mesh_certificate_expiry_timestamp_seconds";
    let help =
        "When the first of the certificates that a listener or cluster shows ends, in seconds since 1970.";
    text.family(name, GAUGE, help);
    for sample in &report.certificates {
        let labels = [("kind", sample.owner.as_str()), ("name", sample.name.as_str())];
        text.sample(name, "", &labels, sample.not_after);
    }
}

fn control_plane(text: &mut Text, plane: Option<&ControlPlaneReport>) {
    let Some(plane) = plane else { return };
    let help = "For how long the control plane has not answered; absent where there is none.";
    let name = "mesh_control_plane_silence_seconds";
    text.single(name, GAUGE, help, Some(plane.silence));
    let name = "mesh_control_plane_connections_lost_total";
    let help = "Connections with the control plane that ended, or could not be made, by why.";
    text.family(name, COUNTER, help);
    for (reason, count) in &plane.lost {
        text.sample(name, "", &[("reason", reason.as_str())], *count);
    }
    let help = "Resources of the control plane that were refused: the last good ones serve.";
    let name = "mesh_control_plane_resources_refused_total";
    text.single(name, COUNTER, help, Some(plane.refused));
    let help = "Resources kept for a while, since the control plane removed most of what it had given.";
    let name = "mesh_control_plane_resources_held";
    text.single(name, GAUGE, help, Some(plane.held));
    let help = "How often the control plane was made to wait, since it sends more than is taken.";
    let name = "mesh_control_plane_slowed_total";
    text.single(name, COUNTER, help, Some(plane.slowed));
}

fn by_result<'a>(text: &mut Text, name: &str, help: &str, results: impl IntoIterator<Item = (&'a str, u64)>) {
    text.family(name, COUNTER, help);
    for (result, count) in results {
        text.sample(name, "", &[("result", result)], count);
    }
}
