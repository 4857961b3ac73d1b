"""From a Diagnosis to files: the report page, the same as data, and volumes in the study's geometry."""

from __future__ import annotations

from jcs_ct.reporting.dicom_results import write_dicom_results
from jcs_ct.reporting.report import ReportPaths, write_report
from jcs_ct.reporting.report_html import render_report
from jcs_ct.reporting.report_json import SCHEMA_VERSION, report_dict, report_schema
from jcs_ct.reporting.report_parts import FORMATS, Format
from jcs_ct.reporting.run_record import write_run_record

__all__ = [
    "FORMATS",
    "SCHEMA_VERSION",
    "Format",
    "ReportPaths",
    "render_report",
    "report_dict",
    "report_schema",
    "write_dicom_results",
    "write_report",
    "write_run_record",
]
