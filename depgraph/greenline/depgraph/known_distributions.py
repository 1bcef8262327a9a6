"""Well-known distributions: whose import names differ from their own, and which ones act unimported.

One line for each: the distribution (PEP 503), then its import names. Conda's names are among them.
"""

from __future__ import annotations

_TABLE = """
absl-py absl
ansible ansible_collections
ansible-core ansible ansible_test
antlr4-python3-runtime antlr4
apache-airflow airflow
apache-airflow-core airflow
apache-airflow-task-sdk airflow.sdk
apache-flink pyflink
apache-superset superset
argon2-cffi argon2
argon2-cffi-bindings _argon2_cffi_bindings
atlassian-python-api atlassian
attrs attr attrs
aws-cdk-lib aws_cdk
aws-sam-translator samtranslator
azure-core azure.core
azure-identity azure.identity
azure-keyvault-secrets azure.keyvault.secrets
azure-storage-blob azure.storage.blob
backports-zoneinfo backports.zoneinfo
basemap mpl_toolkits.basemap
beautifulsoup4 bs4
biopython Bio BioSQL
brotlicffi brotlicffi _brotlicffi
brotlipy brotli
cattrs cattr cattrs
cffi cffi _cffi_backend
couchbase couchbase acouchbase txcouchbase
cuda-python cuda
cupy-cuda11x cupy cupyx cupy_backends
cupy-cuda12x cupy cupyx cupy_backends
cx-oracle cx_Oracle
cython cython pyximport Cython
databricks-sdk databricks.sdk
databricks-sql-connector databricks.sql
discord-py discord
django-allauth allauth
django-appconf appconf
django-compressor compressor
django-cors-headers corsheaders
django-crispy-forms crispy_forms
django-debug-toolbar debug_toolbar
django-environ environ
django-filter django_filters
django-guardian guardian
django-import-export import_export
django-ipware ipware
django-model-utils model_utils
django-mptt mptt
django-oauth-toolkit oauth2_provider
django-polymorphic polymorphic
django-rest-knox knox
django-reversion reversion
django-simple-history simple_history
django-storages storages
django-taggit taggit
django-waffle waffle
djangorestframework rest_framework
djangorestframework-simplejwt rest_framework_simplejwt
dm-haiku haiku
dm-tree tree
dnspython dns
docker-py docker
docopt-ng docopt
elastic-apm elasticapm
factory-boy factory
faiss-cpu faiss
faiss-gpu faiss
farm-haystack haystack
ffmpeg-python ffmpeg
flash-attn flash_attn flash_attn_2_cuda
fonttools fontTools
gdal osgeo osgeo_utils
gitpython git
google-ai-generativelanguage google.ai.generativelanguage
google-api-core google.api_core
google-api-python-client googleapiclient apiclient
google-auth google.auth google.oauth2
google-cloud-aiplatform google.cloud.aiplatform vertexai
google-cloud-bigquery google.cloud.bigquery
google-cloud-bigquery-storage google.cloud.bigquery_storage
google-cloud-core google.cloud
google-cloud-logging google.cloud.logging
google-cloud-pubsub google.cloud.pubsub google.cloud.pubsub_v1 google.pubsub
google-cloud-secret-manager google.cloud.secretmanager
google-cloud-storage google.cloud.storage
google-genai google.genai
google-generativeai google.generativeai
google-resumable-media google.resumable_media google._async_resumable_media
googleapis-common-protos google
graphql-core graphql
grpc-google-iam-v1 google.iam
grpcio grpc
grpcio-health-checking grpc_health
grpcio-reflection grpc_reflection
grpcio-status grpc_status
grpcio-testing grpc_testing
grpcio-tools grpc_tools
haystack-ai haystack
hydra-core hydra
ibm-db ibm_db ibm_db_dbi
imbalanced-learn imblearn
ipython IPython
jack-client jack
jaraco-classes jaraco.classes
jaraco-context jaraco.context
jaraco-functools jaraco.functools
jaraco-text jaraco.text
jpype1 jpype
jupyter-core jupyter_core jupyter
kafka-python kafka
kafka-python-ng kafka
launchdarkly-server-sdk ldclient
levenshtein Levenshtein
line-profiler line_profiler kernprof
markdown-it-py markdown_it
matplotlib matplotlib mpl_toolkits pylab
matplotlib-base matplotlib mpl_toolkits pylab
memory-profiler memory_profiler mprof
microsoft-kiota-abstractions kiota_abstractions
mlflow-skinny mlflow
mmcv-full mmcv
msgpack-python msgpack
mypy mypy mypyc
mysql-connector-python mysql _mysql_connector
mysqlclient MySQLdb
netcdf4 netCDF4
nvidia-ml-py pynvml
odfpy odf
onnxruntime-gpu onnxruntime
open-clip-torch open_clip
openai-whisper whisper
opencv cv2
opencv-contrib-python cv2
opencv-contrib-python-headless cv2
opencv-python cv2
opencv-python-headless cv2
openexr OpenEXR
opentelemetry-api opentelemetry
opentelemetry-sdk opentelemetry.sdk
opentelemetry-semantic-conventions opentelemetry.semconv
orbax-checkpoint orbax.checkpoint
paddlepaddle paddle
paddlepaddle-gpu paddle
paho-mqtt paho
pdfminer-six pdfminer
peewee peewee playhouse pwiz
pillow PIL
pillow-simd PIL
pinecone-client pinecone
poetry-core poetry.core
proto-plus proto
protobuf google.protobuf google._upb
psycopg2-binary psycopg2
py-cpuinfo cpuinfo
py-opencv cv2
pyahocorasick ahocorasick
pybluez bluetooth
pycairo cairo
pycrypto Crypto
pycryptodome Crypto
pycryptodomex Cryptodome
pyfarmhash farmhash
pyfunctional functional
pygithub github
pygobject gi pygtkcompat
pyhamcrest hamcrest
pyicu icu
pyinstaller PyInstaller
pyjwt jwt
pymongo pymongo bson gridfs
pymupdf fitz pymupdf
pynacl nacl
pyobjc-core objc PyObjCTools
pyopengl OpenGL
pyopenssl OpenSSL
pypandoc-binary pypandoc
pypdf2 PyPDF2
pyqt PyQt5
pyqt5 PyQt5
pyqt6 PyQt6
pysaml2 saml2
pyserial serial
pyshp shapefile
pyside2 PySide2 shiboken2
pyside6 PySide6
pysocks socks sockshandler
pytelegrambotapi telebot
pytest _pytest pytest py
python-box box
python-consul consul
python-crontab crontab crontabs cronlog
python-daemon daemon
python-dateutil dateutil
python-decouple decouple
python-docx docx
python-dotenv dotenv
python-engineio engineio
python-gitlab gitlab
python-gnupg gnupg
python-graphviz graphviz
python-hcl2 hcl2
python-igraph igraph
python-jenkins jenkins
python-jose jose
python-json-logger pythonjsonlogger
python-keycloak keycloak
python-ldap ldap ldif ldapurl slapdtest _ldap
python-levenshtein Levenshtein
python-logstash logstash
python-lsp-server pylsp
python-magic magic
python-memcached memcache
python-multipart multipart python_multipart
python-nmap nmap
python-pptx pptx
python-rapidjson rapidjson
python-redis-lock redis_lock
python-slugify slugify
python-snappy snappy
python-socketio socketio
python-stdnum stdnum
python-telegram-bot telegram
python-whois whois
python-xlib Xlib
python3-openid openid
python3-saml onelogin
pytorch torch torchgen functorch
pytorch-cpu torch torchgen functorch
pytorch-gpu torch torchgen functorch
pytorch-ignite ignite
pytorch-lightning pytorch_lightning lightning_fabric
pytorch-triton triton
pyusb usb
pywavelets pywt
pyxdg xdg
pyyaml yaml _yaml
pyyaml-env-tag yaml_env_tag
pyzmq zmq
robotframework robot
rpds-py rpds
ruamel-yaml ruamel.yaml
ruamel-yaml-clib _ruamel_yaml
scikit-image skimage
scikit-learn sklearn
scikit-learn-intelex sklearnex daal4py
scikit-optimize skopt
scikit-plot scikitplot
setuptools setuptools pkg_resources _distutils_hack distutils
slack-sdk slack_sdk slack
slackclient slack
snowflake-connector-python snowflake.connector
snowflake-snowpark-python snowflake.snowpark
snowflake-sqlalchemy snowflake.sqlalchemy
sorl-thumbnail sorl
speechrecognition speech_recognition
suds-community suds
suds-jurko suds
tb-nightly tensorboard
tensorboardx tensorboardX
tensorflow-base tensorflow
tensorflow-cpu tensorflow
tensorflow-gpu tensorflow
tensorflow-macos tensorflow
tf-nightly tensorflow
torch torch torchgen functorch
u-msgpack-python umsgpack
umap-learn umap
unittest-xml-reporting xmlrunner
uwsgi uwsgi uwsgidecorators
vtk vtk vtkmodules
weaviate-client weaviate
web-py web
websocket-client websocket
wxpython wx
zope-component zope.component
zope-event zope.event
zope-interface zope.interface
"""

IMPORT_NAMES: dict[str, frozenset[str]] = {
    line.split()[0]: frozenset(line.split()[1:]) for line in _TABLE.strip().splitlines()
}

# Distributions that share a package: how a name begins → how its import name begins.
NAMESPACES: tuple[tuple[str, str], ...] = (
    ("apache-airflow-providers-", "airflow.providers."),
    ("azure-", "azure."),
    ("backports-", "backports."),
    ("google-cloud-", "google.cloud."),
    ("jaraco-", "jaraco."),
    ("llama-index-", "llama_index."),
    ("nvidia-", "nvidia."),
    ("opentelemetry-", "opentelemetry."),
    ("sphinxcontrib-", "sphinxcontrib."),
    ("zope-", "zope."),
)

# pytest loads these at its start, by their entry points or because it is built on them.
_PLUGINS = """
allure-pytest anyio dash ddtrace deepeval devtools faker flaky hydra-core hypothesis iniconfig inline-snapshot
jaxtyping langsmith logfire logot nbval platformdirs pluggy pyfakefs pytest requests-mock respx schemathesis
seleniumbase snapshottest syrupy tavern teamcity-messages time-machine typeguard xdoctest
"""
PYTEST_PLUGINS = frozenset(_PLUGINS.split())

# Programs that check, format, build, publish or document code: a test that depends on one imports it.
_TOOLS = """
autoflake autopep8 bandit basedpyright black build bump-my-version bump2version bumpversion check-manifest
check-wheel-contents cibuildwheel codespell commitizen conda-lock coverage deptry detect-secrets djlint doc8
docformatter flake8 flit furo hatch hatchling import-linter interrogate isort licensecheck mdformat
mike mkdocs mkdocs-material mypy myst-parser nox numpydoc pdm pip-audit pip-tools pipdeptree pipenv poetry
pre-commit pycln pycodestyle pydocstyle pyflakes pylint pyrefly pyright pytype pyupgrade radon refurb ruff
safety semgrep setuptools-scm sphinx sphinx-rtd-theme tach towncrier tox tox-uv twine ty typos uv vulture
yamllint yapf
"""
DEVELOPER_TOOLS = frozenset(_TOOLS.split())
