"""Keeps Orthanc's files in a folder of its own, in Orthanc's working directory."""

import pathlib

import orthanc

FOLDER = pathlib.Path("area")
FOLDER.mkdir(exist_ok=True)


def path_of(uuid, content_type):
    return FOLDER / f"{content_type}-{uuid}"


def create(uuid, content_type, data):
    path_of(uuid, content_type).write_bytes(data)


def read(uuid, content_type):
    return path_of(uuid, content_type).read_bytes()


def remove(uuid, content_type):
    path_of(uuid, content_type).unlink()


orthanc.RegisterStorageArea(create, read, remove)
