"""Orthanc's routes for storage commitment, answered with what the gateway knows (loaded by orthanc_glue.py).

The reports to Orthanc's own requests for storage commitment come to the gateway, which keeps them in its database.
Needs the standard library only, and no function that plugin 4.0 lacks.

SPDX-License-Identifier: AGPL-3.0-or-later
"""

import json
import os
import re
import socket

import orthanc

# The gateway's socket for reports (storage_commitment.channel), which it answers from its database.
SOCKET_NAME = "commitment.sock"
TIMEOUT_S = 10.0
# A Transaction UID (PS3.5 9.1), with some tolerance: it goes into a path, and into a message of bounded length.
UID = re.compile(r"[0-9A-Za-z._-]{1,64}")
# Orthanc's error codes, each with the HTTP status and the text that Orthanc answers.
INEXISTENT_ITEM = (7, 404, "Not Found", "Accessing an inexistent item")
NETWORK_PROTOCOL = (9, 503, "Service Unavailable", "Error in the network protocol")
BAD_SEQUENCE_OF_CALLS = (6, 500, "Internal Server Error", "Bad sequence of calls")


class Unanswered(Exception):
    """A question about a request for commitment gets an error. The argument: which one, and its details."""


class StorageCommitment:
    """What Orthanc says of its requests for storage commitment."""

    def __init__(self, state_directory):
        """`state_directory`: the folder with the gateway's sockets."""
        self._state_directory = state_directory

    def register(self):
        """Take over Orthanc's routes."""
        orthanc.RegisterRestCallback("/storage-commitment/([^/]+)", self._answer)
        orthanc.RegisterRestCallback("/storage-commitment/([^/]+)/remove", self._remove)

    def _reports_of(self, transaction_uid):
        """The reports that came to the gateway to a request of Orthanc's, the latest first, in Orthanc's JSON.

        None if the gateway cannot say.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(TIMEOUT_S)
            try:
                connection.connect(str(self._state_directory / SOCKET_NAME))
                connection.send(json.dumps({"report_of": transaction_uid}).encode())
                packet, fds, _flags, _address = socket.recv_fds(connection, 4096, 1)
            except FileNotFoundError:
                return []  # it has never had storage commitment
            except OSError as error:
                orthanc.LogWarning(f"DICOM gateway: does not say whether storage commitment was reported: {error}")
                return None
        if not fds:
            return None
        with os.fdopen(fds[0], "rb") as file:
            size = json.loads(packet)["size"]
            return json.loads(os.pread(file.fileno(), size, 0)) if size else []

    def _commitment(self, transaction_uid):
        """What Orthanc should say of a request for commitment."""
        if not UID.fullmatch(transaction_uid):
            raise Unanswered(INEXISTENT_ITEM, f"No storage commitment transaction with UID: {transaction_uid}")
        try:
            own = json.loads(orthanc.RestApiGet(f"/storage-commitment/{transaction_uid}"))
        except orthanc.OrthancException:
            own = None  # made before the last start of Orthanc, which keeps them in memory, or never
        reports = self._reports_of(transaction_uid)
        if reports and own is not None:
            # Of several who report, whoever was asked is believed first.
            asked = own["RemoteAET"].upper()
            reports.sort(key=lambda report: report["RemoteAET"].upper() != asked)
        if reports:
            return reports[0]
        if own is not None:
            return own
        if reports is None:
            raise Unanswered(NETWORK_PROTOCOL, "The DICOM gateway does not answer")
        raise Unanswered(INEXISTENT_ITEM, f"No storage commitment transaction with UID: {transaction_uid}")

    def _answer(self, output, uri, **request):
        """GET /storage-commitment/{uid}, as Orthanc answers it."""
        if request["method"] != "GET":
            output.SendMethodNotAllowed("GET")
            return
        try:
            output.AnswerBuffer(json.dumps(self._commitment(request["groups"][0]), indent=3), "application/json")
        except Unanswered as error:
            answer_error(output, uri, "GET", *error.args)

    def _remove(self, output, uri, **request):
        """POST /storage-commitment/{uid}/remove: delete what was committed, if all of it was."""
        if request["method"] != "POST":
            output.SendMethodNotAllowed("POST")
            return
        transaction_uid = request["groups"][0]
        try:
            answer = self._commitment(transaction_uid)
            if answer["Status"] != "Success":
                state = "pending" if answer["Status"] == "Pending" else "failure in"
                details = (
                    f"Cannot remove DICOM instances after {state} storage commitment transaction: {transaction_uid}"
                )
                raise Unanswered(BAD_SEQUENCE_OF_CALLS, details)
        except Unanswered as error:
            answer_error(output, uri, "POST", *error.args)
            return
        committed = [found for one in answer["Success"] for found in instances(one["SOPInstanceUID"])]
        if committed:
            orthanc.RestApiPost("/tools/bulk-delete", json.dumps({"Resources": committed}))
        output.AnswerBuffer("{}", "application/json")


def instances(sop_instance_uid):
    """Orthanc's identifiers of the instances with this UID."""
    found = json.loads(orthanc.RestApiPost("/tools/lookup", sop_instance_uid))
    return [one["ID"] for one in found if one["Type"] == "Instance"]


def answer_error(output, uri, method, error, details):
    """As Orthanc answers errors."""
    code, status, reason, message = error
    body = {
        "Details": details,
        "HttpError": reason,
        "HttpStatus": status,
        "Message": message,
        "Method": method,
        "OrthancError": message,
        "OrthancStatus": code,
        "Uri": uri,
    }
    text = json.dumps(body, indent="\t")
    output.SendHttpStatus(status, text, len(text))
