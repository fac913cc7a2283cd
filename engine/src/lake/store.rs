//! Where the lake is: a folder, S3 or GCS, behind one interface, and what is asked of it.
//!
//! A write is durable when it has returned: an object store promises that, of a folder it is seen to here. A write that
//! finds its name taken changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, PutMode, RetryConfig};

use super::LakeError;

/// How long a request may take, and how long it is tried again before its caller hears of it.
const REQUEST: Duration = Duration::from_secs(30);
/// Tries of a request.
const RETRIES: usize = 3;

/// A store of objects.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// Where it is in the file system, if it is there.
    folder: Option<PathBuf>,
    url: String,
}

/// An object.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its name.
    pub path: Path,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was written.
    pub written_at: DateTime<Utc>,
}

impl Object {
    /// Written before so long.
    pub fn is_older_than(&self, age: Duration) -> bool {
        Utc::now().signed_duration_since(self.written_at).to_std().is_ok_and(|since| since >= age)
    }
}

impl Store {
    /// Opens `url`: a path, `file://`, `s3://bucket/prefix`, `gs://bucket/prefix`. Asks for nothing yet, but makes the
    /// folder.
    pub fn open(url: &str) -> Result<Store, LakeError> {
        let wrong = |reason: String| LakeError::Address { url: url.to_owned(), reason };
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: REQUEST, ..RetryConfig::default() };
        let options = ClientOptions::new().with_timeout(REQUEST);
        let (scheme, rest) = url.split_once("://").unwrap_or(("file", url));
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let objects: Arc<dyn ObjectStore> = match scheme {
            "file" => {
                let folder = PathBuf::from(rest);
                std::fs::create_dir_all(&folder).map_err(|error| wrong(error.to_string()))?;
                let folder = folder.canonicalize().map_err(|error| wrong(error.to_string()))?;
                let store = LocalFileSystem::new_with_prefix(&folder)
                    .map_err(|error| wrong(error.to_string()))?
                    .with_automatic_cleanup(true);
                return Ok(Store { objects: Arc::new(store), folder: Some(folder), url: url.to_owned() });
            }
            "s3" | "s3a" => {
                // An endpoint without TLS is one of this machine or network: whoever names it means it.
                let plain = std::env::var("AWS_ENDPOINT_URL").is_ok_and(|url| url.starts_with("http://"));
                let mut builder = AmazonS3Builder::from_env().with_client_options(options).with_retry(retry);
                if plain {
                    builder = builder.with_allow_http(true);
                }
                Arc::new(builder.with_bucket_name(bucket).build().map_err(|error| wrong(error.to_string()))?)
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::from_env().with_client_options(options).with_retry(retry);
                Arc::new(builder.with_bucket_name(bucket).build().map_err(|error| wrong(error.to_string()))?)
            }
            _ => return Err(wrong("write a path, file://, s3://bucket/prefix or gs://bucket/prefix".to_owned())),
        };
        let prefix = prefix.trim_matches('/');
        let objects = if prefix.is_empty() { objects } else { Arc::new(PrefixStore::new(objects, prefix)) };
        Ok(Store { objects, folder: None, url: url.to_owned() })
    }

    /// As it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Writes an object that is not there yet. False: it is, and stays as it is.
    pub async fn create(&self, path: &Path, bytes: Vec<u8>) -> Result<bool, LakeError> {
        match self.objects.put_opts(path, bytes.into(), PutMode::Create.into()).await {
            Ok(_) => self.sync(path).await.map(|()| true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes an object, over one that is there.
    pub async fn put(&self, path: &Path, bytes: Vec<u8>) -> Result<(), LakeError> {
        self.objects.put(path, bytes.into()).await?;
        self.sync(path).await
    }

    /// An object, whole.
    pub async fn get(&self, path: &Path) -> Result<Bytes, LakeError> {
        Ok(self.objects.get(path).await?.bytes().await?)
    }

    /// Removes an object; one that is gone is as good.
    pub async fn delete(&self, path: &Path) -> Result<(), LakeError> {
        match self.objects.delete(path).await {
            Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts an object away under another name.
    pub async fn set_aside(&self, path: &Path, to: &Path) -> Result<(), LakeError> {
        self.objects.copy(path, to).await?;
        self.delete(path).await
    }

    /// The objects below a folder whose names are after `offset`, in the order of names.
    pub async fn list(&self, folder: &Path, offset: Option<&Path>) -> Result<Vec<Object>, LakeError> {
        let found = match offset {
            Some(offset) => self.objects.list_with_offset(Some(folder), offset),
            None => self.objects.list(Some(folder)),
        };
        let mut found: Vec<_> = found
            .map_ok(|meta| Object { path: meta.location, bytes: meta.size, written_at: meta.last_modified })
            .try_collect()
            .await?;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// The names of the folders in a folder.
    pub async fn folders(&self, folder: Option<&Path>) -> Result<Vec<String>, LakeError> {
        let found = self.objects.list_with_delimiter(folder).await?.common_prefixes;
        let mut names: Vec<_> = found.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    /// A file, and the folders in which it is new, are on the disk.
    async fn sync(&self, path: &Path) -> Result<(), LakeError> {
        let Some(root) = self.folder.clone() else { return Ok(()) };
        let file = root.join(path.as_ref());
        let synced = tokio::task::spawn_blocking(move || {
            std::fs::File::open(&file)?.sync_all()?;
            for folder in file.ancestors().skip(1).take_while(|folder| folder.starts_with(&root)) {
                std::fs::File::open(folder)?.sync_all()?;
            }
            Ok::<_, std::io::Error>(())
        });
        synced.await.map_err(std::io::Error::other)??;
        Ok(())
    }
}
