//! Statements sent one behind the other, without waiting for the answer to the one before.
//!
//! A transaction of a dozen small statements then costs one round trip. What is under way is bounded, and
//! the first refusal ends it: PostgreSQL refuses all that follows in the transaction by itself.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use tokio_postgres::{Client, Error, Statement};

use super::encode::Parameter;

/// The most statements under way.
const MOST_STATEMENTS: usize = 64;
/// The most bytes of parameters under way.
const MOST_BYTES: usize = 32 << 20;

pub(super) type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;

/// Statements under way on a connection.
pub(super) struct Pipeline<'a, L> {
    client: &'a Client,
    under_way: VecDeque<(L, usize, Answer<'a>)>,
    bytes: usize,
    /// What was asked and how many rows it changed, in order.
    answers: Vec<(L, u64)>,
}

impl<'a, L> Pipeline<'a, L> {
    /// Nothing under way.
    pub fn new(client: &'a Client) -> Self {
        Pipeline { client, under_way: VecDeque::new(), bytes: 0, answers: vec![] }
    }

    /// Sends text of one or more statements without parameters.
    ///
    /// # Errors
    /// A refusal of an earlier statement, with its label.
    pub async fn text(&mut self, label: L, sql: &'static str) -> Result<(), (L, Error)> {
        let client = self.client;
        self.send(label, 0, Box::pin(async move { client.batch_execute(sql).await.map(|()| 0) })).await
    }

    /// Sends a prepared statement.
    ///
    /// # Errors
    /// A refusal of an earlier statement, with its label.
    pub async fn statement(
        &mut self,
        label: L,
        statement: Statement,
        parameters: Vec<Parameter>,
    ) -> Result<(), (L, Error)> {
        let client = self.client;
        let bytes = parameters.iter().map(Parameter::len).sum();
        self.send(label, bytes, Box::pin(async move { client.execute_raw(&statement, &parameters).await })).await
    }

    /// Sends what `answer` asks when it is first polled.
    ///
    /// # Errors
    /// A refusal of an earlier statement, with its label.
    pub async fn send(&mut self, label: L, bytes: usize, mut answer: Answer<'a>) -> Result<(), (L, Error)> {
        while self.under_way.len() >= MOST_STATEMENTS || (self.bytes + bytes > MOST_BYTES && !self.under_way.is_empty())
        {
            self.receive().await?;
        }
        // The driver hands a request to the connection when its future is first polled: statements arrive
        // in the order of these polls.
        match poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await {
            Poll::Ready(Ok(rows)) => self.answers.push((label, rows)),
            Poll::Ready(Err(error)) => return Err((label, error)),
            Poll::Pending => {
                self.bytes += bytes;
                self.under_way.push_back((label, bytes, answer));
            }
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<(), (L, Error)> {
        if let Some((label, bytes, answer)) = self.under_way.pop_front() {
            self.bytes -= bytes;
            match answer.await {
                Ok(rows) => self.answers.push((label, rows)),
                Err(error) => return Err((label, error)),
            }
        }
        Ok(())
    }

    /// Waits for all answers.
    ///
    /// # Errors
    /// The first refusal, with its label.
    pub async fn finish(mut self) -> Result<Vec<(L, u64)>, (L, Error)> {
        while !self.under_way.is_empty() {
            self.receive().await?;
        }
        Ok(self.answers)
    }
}
