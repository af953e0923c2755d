"""The TLS context of connections that the gateway opens: for modalities with UseDicomTls."""

import ssl

from gateway.options.config import Configuration
from gateway.tls.context import TlsError, TlsFiles, load_own, load_trusted, require_readable


def client_context(configuration: Configuration) -> ssl.SSLContext:
    """Load the files of Orthanc's options, as they are now. Raises TlsError.

    As in Orthanc, peers must have a certificate that DicomTlsTrustedCertificates vouch for; their host's name is not
    compared.
    """
    options = configuration.orthanc
    if not options.dicom_tls_trusted_certificates:
        raise TlsError("DicomTlsTrustedCertificates: expected the path of a file, because of UseDicomTls")
    if bool(options.dicom_tls_certificate) != bool(options.dicom_tls_private_key):
        raise TlsError("expected both DicomTlsCertificate and DicomTlsPrivateKey, or none of them")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    try:
        policy = options.tls_policy()
    except ValueError as error:
        raise TlsError(str(error)) from error
    context.minimum_version = policy.minimum_version
    context.set_ciphers(policy.ciphers)
    trusted = configuration.path(options.dicom_tls_trusted_certificates)
    files = TlsFiles(
        certificate=configuration.path(options.dicom_tls_certificate),
        private_key=configuration.path(options.dicom_tls_private_key),
        trusted=trusted,
    )
    require_readable("DicomTlsTrustedCertificates", trusted)
    load_trusted(context, "DicomTlsTrustedCertificates", trusted)
    if options.dicom_tls_certificate:
        require_readable("DicomTlsCertificate", files.certificate)
        require_readable("DicomTlsPrivateKey", files.private_key)
        load_own(context, files)
    return context
