"""The page: readers send studies, watch them read, check the reasons and correct the lesions (extra ``service``)."""
