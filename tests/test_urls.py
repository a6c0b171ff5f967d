"""Rules of URLs: what they name, and that nothing secret is left of them."""

from pathlib import Path

import pytest

from featcache.dataset.manifest import default_name
from featcache.dataset.urls import Url, inside, is_url, location, without_secrets
from featcache.errors import DatasetError


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("S3://bucket/a/", "s3://bucket/a"),
        ("s3://key:secret@bucket/a@b", "s3://bucket/a@b"),
        ("s3://bucket/a#1?versionId=3", "s3://bucket/a#1"),
        ("https://me:pw@host:8443/t.csv?X-Amz-Signature=1#x", "https://host:8443/t.csv"),
        ("https://host?token=1", "https://host"),
        ("abfs://box@account.dfs.core.windows.net/a?sig=1",
         "abfs://box@account.dfs.core.windows.net/a"),
    ],
)  # fmt: skip
def test_what_may_be_secret_is_stripped(text: str, plain: str) -> None:
    """User, password, query and fragment are no part of a URL, and that is known."""
    url = location(text)
    assert str(url) == plain
    assert isinstance(url, Url)
    assert url.stripped == (text.rstrip("/").lower() != plain.lower())
    assert "secret" not in repr(url)


@pytest.mark.parametrize("text", ["s3://", "s3:///", "zip::s3://b/x.zip", "a::s3://b"])
def test_urls_that_name_nothing_are_refused(text: str) -> None:
    """Nor are chains of protocols read."""
    if is_url(text):
        with pytest.raises(DatasetError, match="a URL such as"):
            location(text)
    else:
        assert location(text) == Path(text)


@pytest.mark.parametrize("text", ["a/b", "/a//b", "C:/x", "file:///etc/x", "s3:/b/x"])
def test_what_is_a_path(text: str) -> None:
    """A URL has a scheme of two letters or more, and file:// is none of ours."""
    assert location(text) == Path(text)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("a/b.png", "s3://bucket/x/a/b.png"), ("../b.png", "s3://bucket/b.png"),
        ("../../../b.png", "s3://bucket/b.png"), ("/b.png", "s3://bucket/b.png"),
        ("https://me@host/b.png?x", "https://host/b.png"), ("", "s3://bucket/x"),
        ("a?b#c.png", "s3://bucket/x/a?b#c.png"),
    ],
)  # fmt: skip
def test_paths_of_a_table_are_below_its_url(path: str, place: str) -> None:
    """Or at one of their own; a name in a bucket may have any character."""
    assert str(inside(Url.of("s3://bucket/x"), path)) == place


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("s3://bucket/chest", "chest"), ("s3://bucket", "bucket"),
        ("s3://bucket/a/chest.zip", "chest"), ("https://host/a/metadata.csv", "a"),
        ("https://host:80/metadata.csv", "host-80"),
    ],
)  # fmt: skip
def test_names_of_datasets(text: str, name: str) -> None:
    """As those of folders, zips and tables here."""
    assert default_name(Url.of(text)) == name


def test_texts_without_secrets() -> None:
    """URLs in messages and commands lose user and query; other texts stay."""
    text = "--at x?y 'https://a:b@host/x?sig=1' s3://k@b/x, a@b.org?"
    plain = "--at x?y 'https://host/x' s3://b/x, a@b.org?"
    assert without_secrets(text) == plain
