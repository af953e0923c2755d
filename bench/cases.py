"""All that is measured, in the order of the tables."""

from bench.case import Case
from bench.commitment_cases import COMMITMENT_CASES
from bench.filter_cases import FILTER_CASES
from bench.find_cases import FIND_CASES
from bench.order_cases import ORDER_CASES
from bench.proxy_cases import PROXY_CASES
from bench.retrieve_cases import RETRIEVE_CASES
from bench.store_cases import STORE_CASES
from bench.worklist_cases import WORKLIST_CASES

CASES: tuple[Case, ...] = (
    *STORE_CASES,
    *FILTER_CASES,
    *FIND_CASES,
    *RETRIEVE_CASES,
    *WORKLIST_CASES,
    *ORDER_CASES,
    *PROXY_CASES,
    *COMMITMENT_CASES,
)
