//! How is the sidecar told what to do?

/// What `--help` says. It is the table of the settings, too: see [`valued`].
pub(crate) const HELP: &str = "\
mesh-sidecar: a proxy for every protocol, in one small process

usage:
  mesh-sidecar --config FILE [--check]
  mesh-sidecar --listen ADDRESS --to ADDRESS
  mesh-sidecar --control LIST --identity ID --inbound ADDRESS ...
  mesh-sidecar [flags] -- COMMAND...

  --config FILE       resources as JSON (see `mesh compile`); SIGHUP reads it again     MESH_CONFIG
  --check             only say what is wrong with the configuration and its files
  --listen ADDRESS    accept HTTP/1, HTTP/2, gRPC and TCP here                          MESH_LISTEN
  --to ADDRESS        and send everything there: IP:PORT, NAME:PORT or unix:PATH        MESH_TO
  --access-log FILE   with --listen: a line for each finished request, `-`: to stdout   MESH_ACCESS_LOG
  --control LIST      a workload of a mesh: HOST:PORT of its control planes             MESH_CONTROL
  --trust-anchors F   the roots that vouch for the control plane, in PEM                MESH_TRUST_ANCHORS
  --identity ID       spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT                           MESH_IDENTITY
  --token-file FILE   what the first certificate is had for                             MESH_TOKEN_FILE
  --attestation K=F   or what a platform says: of kind K, in file F, read each time     MESH_ATTESTATION
  --name NAME         of this copy, and of no other of its service                      MESH_NAME
                      (default: the service, the machine and random digits)
  --service NAME      that it is a copy of (default: the identity's account)            MESH_SERVICE
  --inbound ADDRESS   where other workloads call it                                     MESH_INBOUND
  --advertise ADDRESS and what they are told to call, where that is another             MESH_ADVERTISE
                      (default: that; of one at every address, the address that its
                      control plane is called from)
  --outbound ADDRESS  where its own calls others, as a proxy                            MESH_OUTBOUND
  --outbound-from WHO local: programs of this machine, or any: whoever reaches it       MESH_OUTBOUND_FROM
                      there and at --forward, and calls as this workload (default local)
  --ports LIST        PORT=ADDRESS of its application, /http1, /http2 or /tcp behind    MESH_PORTS
  --forward LIST      NAME:PORT=ADDRESS: plain listeners for one name, /tcp for bytes    MESH_FORWARD
  --transparent on    connections are redirected here by the kernel (mesh redirect)     MESH_TRANSPARENT
  --opaque-ports LIST outside the mesh, nobody looks at the bytes to these ports        MESH_OPAQUE_PORTS
                      (default 25,587,3306,4444,4567,4568,5432,6379,9300,11211; or none)
  --egress WHICH      any, or known: services of the mesh only (default any)            MESH_EGRESS
  --name-idle SPAN    how long a name is kept that nobody calls (default 10m)           MESH_NAME_IDLE
  --state-dir DIR     keep what is needed to start without a control plane              MESH_STATE_DIR
  --admin ADDRESS     health, metrics and statistics here, or off                       MESH_ADMIN
                      (default 127.0.0.1:4191)
  --threads N         data threads, 1 to 256 (default 1)                                MESH_THREADS
  --dns-server LIST   name servers to ask, IP or IP:PORT, with commas between           MESH_DNS_SERVER
                      (default: the system's)
  --lame-duck SPAN    how long a draining proxy still accepts (default 3s)              MESH_LAME_DUCK
  --grace SPAN        how long a command may take to end when asked (default 10s)       MESH_GRACE
  --with-parent PID   die with this parent, even when it is killed                      MESH_WITH_PARENT
  --log-level LEVEL   what is said: error, warn, info or debug (default info)           MESH_LOG_LEVEL
  --log-format FORM   lines as text or json (default text), on standard error           MESH_LOG_FORMAT
  --version           print the version
  --help              print this

A flag wins over its variable; an empty variable is none.
SIGTERM or SIGINT drains, a second one ends at once; SIGUSR1 opens access logs anew.
A COMMAND is started when the proxy is ready, and asked to end when it has drained.
Exit codes: 0 ended as asked, 1 failed, 64 bad settings or configuration; with a COMMAND, that command's.

examples:
  mesh-sidecar --listen 127.0.0.1:4143 --to 127.0.0.1:3000
  mesh compile mesh.yaml > mesh.json && mesh-sidecar --config mesh.json
  mesh-sidecar --listen 127.0.0.1:4143 --to 127.0.0.1:3000 -- node server.mjs
  curl 127.0.0.1:4191/metrics
";

/// The settings that have a value, with their variables: in the help they are in the first column and in the last one.
pub(super) fn valued() -> impl Iterator<Item = (&'static str, &'static str)> {
    HELP.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (flag, variable) = (words.next()?, words.next_back()?);
        (line.starts_with("  --") && variable.starts_with("MESH_")).then_some((flag, variable))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_the_help_but_the_three_without_a_value_has_the_variable_of_its_name() {
        let (mut with, mut without) = (0, Vec::new());
        for line in HELP.lines().filter(|line| line.starts_with("  --")) {
            let flag = line.split_ascii_whitespace().next().unwrap();
            match valued().find(|(valued, _)| *valued == flag) {
                Some((_, variable)) => {
                    with += 1;
                    let name = flag[2..].to_ascii_uppercase().replace('-', "_");
                    assert_eq!(variable, format!("MESH_{name}"));
                }
                None => without.push(flag),
            }
        }
        assert_eq!(without, ["--check", "--version", "--help"]);
        assert_eq!(valued().count(), with, "none is said twice");
    }
}
