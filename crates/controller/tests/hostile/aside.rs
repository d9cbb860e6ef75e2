//! Does a sidecar that stands aside hear what all hear, and is it nobody's endpoint?

use mesh_protocol::message::Aside;

use super::*;

#[tokio::test]
async fn who_stands_aside_hears_and_reports_and_takes_no_place() {
    let plane = Plane::start();
    let web = plane.member(WEB).await;
    let mut first = web.reports("web-1").await;
    within(plane.until(|sidecars| sidecars.len() == 1)).await;
    let mut aside = web.reports_aside("web-1").await;
    for message in [FromSidecar::Ready(Ready {}), edges(0..1)] {
        within(aside.outgoing.send(&message.into())).await.unwrap();
    }
    within(async {
        while plane.controller.edges().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(plane.controller.sidecars()[0].phase, Phase::Connected);
    plane.controller.revoke(TILL).unwrap();
    for reports in [&mut aside, &mut first] {
        let denied = within(async {
            loop {
                let message = reports.incoming.receive().await.unwrap().unwrap().message;
                if let Some(FromControl::Denied(denied)) = message
                    && !denied.identities.is_empty()
                {
                    return denied.identities;
                }
            }
        });
        assert_eq!(denied.await, [TILL]);
    }
    drop(aside);
    let mut second = web.reports("web-1").await;
    let error = end_of(&mut first).await;
    assert_eq!(refusal(&error), (Code::Aborted, "replaced".into()));
    // Nor does anybody begin anew on the same stream.
    let hello = FromSidecar::Aside(Aside { name: "web-1".into() });
    within(second.outgoing.send(&hello.into())).await.unwrap();
    assert_eq!(refusal(&end_of(&mut second).await).0, Code::InvalidArgument);
}
