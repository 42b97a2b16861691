use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::spec::{Failure, Sample, Spec};
use crate::subjects::Subject;
use crate::worker::Start;

/// How long each holds the lock. Longer than a waiter needs to be asleep in its queue.
const HELD: Duration = Duration::from_millis(25);

/// The tasks of all processes take turns with one lock. Who has released it gives the other time to take it, so each turn but
/// the first is a hand-over to a waiter. The clock is that of the machine, which all processes share.
pub(crate) async fn hand_over(subject: Arc<impl Subject>, spec: &Spec, turns: usize) -> Result<Sample, Failure> {
    subject.hold(0, &format!("warm-up-{}", spec.process), false, async || ()).await?;
    let mut sample = Sample::default();
    let running = Start.wait()?;
    let all = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..spec.tasks)
        .map(|task| {
            let (subject, all) = (Arc::clone(&subject), Arc::clone(&all));
            tokio::spawn(async move {
                for _ in 0..turns {
                    let (mut granted, mut ended) = (0, 0);
                    let (at_grant, at_end) = (&mut granted, &mut ended);
                    subject
                        .hold(task, "hand-over", true, || async move {
                            *at_grant = now();
                            sleep(HELD).await;
                            *at_end = now();
                        })
                        .await?;
                    all.lock().await.push([granted, ended, now()]);
                    sleep(HELD / 5).await;
                }
                Ok::<_, Failure>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    running.end(&mut sample)?;
    if spec.process == 0 {
        sample.values.insert("µs of a pair alone after such pauses".into(), pair_alone(&*subject, turns).await?);
    }
    sample.turns = all.lock().await.clone();
    sample.count = sample.turns.len() as u64;
    Ok(sample)
}

/// A pair of acquire and release that no one waits for, after a pause as between the turns: on a machine whose processors sleep
/// meanwhile it takes longer than in a row of pairs. The middle of several, in microseconds.
async fn pair_alone(subject: &impl Subject, times: usize) -> Result<f64, Failure> {
    let mut all = Vec::new();
    for _ in 0..times {
        sleep(HELD).await;
        let begun = now();
        subject.hold(0, "alone", false, async || ()).await?;
        all.push(now() - begun);
    }
    all.sort_unstable();
    all.get(times / 2).map(|middle| *middle as f64).ok_or_else(|| "no turns".into())
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}
