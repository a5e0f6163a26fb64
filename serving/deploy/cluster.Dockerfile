# genzoo with all that its measurements need, for the Job of the chart: every pod has this very image, as a worker that
# runs another version gets no work. Build at the root of the repository, after `make release`, whose wheel has the
# feature nets and the golden set of checkpoints; others travel from the head, or come by $GENZOO_REMOTE:
#   docker build -f serving/deploy/cluster.Dockerfile -t genzoo-cluster --build-context dist=dist .
FROM python:3.11-slim

COPY --from=dist genzoo-*.whl /tmp/
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir "$(echo /tmp/genzoo-*.whl)[cpu,export,engines,serving,benchmarks,distributed]" \
    && rm /tmp/genzoo-*.whl && genzoo --version

RUN useradd --uid 1000 --create-home genzoo
USER genzoo
